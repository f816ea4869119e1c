import assert from 'node:assert/strict'

import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import { draft } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { capability } from '../needs.ts'
import { brokerCase } from '../stage.ts'

const schedules = capability(
  'scheduledSend',
  (has) => (has.scheduledSend?.maxDelayMs ?? 0) >= 1_000,
)

const transacts = capability(
  "atomicPublish 'prefix' or 'any'",
  (has) => has.atomicPublish !== 'none',
)

/** What only some brokers can: messages for later, settles and publishes in one. */
export const extraCases: readonly Case<BrokerHarness>[] = [
  brokerCase(
    'delivers a scheduled message when it is due, not before',
    [schedules],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      const dueMs = stage.clock.wallMs() + 400
      let arrivedMs = 0
      await connection.confirmed([
        draft(topic, { body: 'later', deliverAtMs: dueMs }),
        draft(topic, { body: 'now' }),
      ])
      await stage.eventually(
        () => `arrived: ${listener.bodies.join(', ')}`,
        () => {
          if (arrivedMs === 0 && listener.bodies.includes('later')) arrivedMs = stage.clock.wallMs()
          return listener.received.length >= 2
        },
      )
      assert.deepEqual(listener.bodies, ['now', 'later'])
      assert.ok(arrivedMs >= dueMs, `it came ${dueMs - arrivedMs} ms early`)
    },
  ),

  brokerCase('settles and publishes together, or neither', [transacts], async (stage) => {
    const connection = await stage.connect()
    const source = await stage.topic(connection)
    const target = await stage.topic(connection)
    const listener = await connection.listen(source)
    const reader = await connection.listen(target, { onReceived: ackAtOnce })
    await connection.confirmed([draft(source), draft(source)])
    await stage.eventually(
      () => 'nothing arrived',
      () => listener.received.length === 2,
    )
    const { receiver } = listener
    assert.ok(receiver.transact !== undefined, 'capabilities promise transact()')
    const [first, second] = listener.received
    const nowhere = draft(stage.topicName())
    const failed = await receiver.transact(
      [first!.delivery],
      [draft(target, { body: 'with a failure' }), nowhere],
      stage.deadline(),
    )
    assert.equal(failed, 'aborted', 'one produced message has no destination')
    const done = await receiver.transact(
      [first!.delivery, second!.delivery],
      [draft(target, { body: 'both' })],
      stage.deadline(),
    )
    assert.equal(done, 'committed')
    await stage.eventually(
      () => 'the produced message did not arrive',
      () => reader.received.length > 0,
    )
    await stage.quiet('more than what was committed', () => reader.received.length)
    assert.deepEqual(reader.bodies, ['both'])
    await connection.close()
    const rest = await (await stage.connect()).listen(source, { onReceived: ackAtOnce })
    await stage.still(() => rest.received.length)
    assert.equal(rest.received.length, 0, 'a settled message came again')
  }),

  brokerCase('has transact() exactly where atomicPublish says so', [], async (stage) => {
    const connection = await stage.connect()
    const listener = await connection.listen(await stage.topic(connection))
    const { atomicPublish } = connection.capabilities
    assert.equal(listener.receiver.transact !== undefined, atomicPublish !== 'none')
  }),
]
