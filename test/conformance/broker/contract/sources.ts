import assert from 'node:assert/strict'

import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import { fault } from '../needs.ts'
import { brokerCase } from '../stage.ts'

/** What happens when the broker takes a source away, or what it reads from. */
export const sourceCases: readonly Case<BrokerHarness>[] = [
  brokerCase(
    'says which sources are lost, and hands out their messages again',
    [fault('loseSource')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic)
      await connection.confirmed(run(topic, null, 3))
      await stage.eventually(
        () => 'nothing arrived',
        () => listener.received.length === 3,
      )
      const before = listener.received.map(({ delivery }) => delivery.source)
      await stage.fault('loseSource')(topic, 'a')
      await stage.eventually(
        () =>
          `${listener.received.length} of 6 deliveries came, ${listener.lostSources.length} lost`,
        () => listener.received.length === 6 && listener.lostSources.length > 0,
      )
      for (const { delivery, redelivered, attempt } of listener.received.slice(3)) {
        assert.ok(!before.includes(delivery.source), 'a new assignment is a new source object')
        assert.notEqual(redelivered, 'no')
        assert.equal(attempt, 1, 'losing a source counts no attempt')
      }
      assert.ok(before.every((source) => listener.lostSources.includes(source)))
    },
  ),

  brokerCase(
    'ignores settles of a lost source, with an event',
    [fault('loseSource')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic)
      await connection.confirmed([draft(topic)])
      await stage.eventually(
        () => 'nothing arrived',
        () => listener.received.length === 1,
      )
      const stale = listener.received[0]!
      await stage.fault('loseSource')(topic, 'a')
      await stage.eventually(
        () => 'the message did not come again',
        () => listener.received.length === 2,
      )
      stale.delivery.ack()
      stale.delivery.release()
      stale.delivery.retry?.(0)
      await stage.eventually(
        () => 'no settle.stale event was told',
        () => connection.events.some(({ type }) => type === 'settle.stale'),
      )
      await stage.quiet('the stale settling moved the message', () => listener.received.length)
      await connection.close()
      const taker = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
      await stage.eventually(
        () => "a stale ack finished the new holder's message",
        () => taker.received.length === 1,
      )
    },
  ),

  brokerCase('remembers pause() over a loss of sources', [fault('loseSource')], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    listener.receiver.pause()
    await stage.fault('loseSource')(topic, 'a')
    await connection.confirmed(run(topic, null, 5))
    await stage.quiet('a later source delivered although paused', () => listener.received.length)
    assert.equal(listener.received.length, 0)
    listener.receiver.resume()
    await stage.eventually(
      () => `${listener.received.length} of 5 arrived after resume()`,
      () => listener.received.length >= 5,
    )
  }),

  brokerCase(
    'keeps what was settled before a source was lost',
    [fault('loseSource')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      await connection.confirmed(run(topic, null, 10))
      await stage.eventually(
        () => `${listener.received.length} of 10 arrived`,
        () => listener.received.length === 10,
      )
      await listener.receiver.flush(stage.deadline())
      await stage.fault('loseSource')(topic, 'a')
      await connection.confirmed([draft(topic, { body: 'after' })])
      await stage.eventually(
        () => 'nothing arrived after the loss',
        () => listener.bodies.includes('after'),
      )
      await stage.quiet('a settled message came again', () => listener.received.length)
      assert.equal(listener.received.length, 11)
    },
  ),

  brokerCase(
    'ends a receiver whose destination was deleted',
    [fault('deleteDestination')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      await stage.fault('deleteDestination')(topic, 'a')
      await stage.eventually(
        () => 'ended() was not called',
        () => listener.ends.length > 0,
      )
      assert.equal(listener.ends[0]?.code, 'destination-gone')
      assert.match(listener.ends[0]?.message ?? '', new RegExp(topic))
    },
  ),

  brokerCase('ends without an error, if at all, when it is closed', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    assert.deepEqual(listener.ends, [], 'ended() before close()')
    await listener.close(stage.deadline())
    await connection.close()
    assert.ok(listener.ends.every((error) => error === undefined))
  }),
]
