import assert from 'node:assert/strict'

import { sleep } from '../../../../src/contract/clock.ts'
import type { Envelope } from '../../../../src/contract/message.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce, type Connection } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener } from '../listener.ts'
import { fault, inspector } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

/** Sends until everything is confirmed, the same envelopes again where the outcome was not that. */
async function insist(
  stage: Stage,
  connection: Connection,
  batch: readonly Envelope[],
): Promise<void> {
  const giveUpAt = stage.deadline()
  for (let open = batch; open.length > 0;) {
    assert.ok(stage.clock.now() < giveUpAt, `${open.length} messages could not be confirmed`)
    const outcomes = await connection.outcomes(open, stage.limitMs / 4)
    const again = open.filter((_, index) => outcomes[index]?.status !== 'confirmed')
    if (again.length > 0) await sleep(stage.clock, 20)
    open = again
  }
}

function distinct(listeners: readonly Listener[]): number {
  return new Set(listeners.flatMap(({ received }) => received.map((one) => one.envelope.id))).size
}

/** Many messages, and a broker that goes away in the middle of them. */
export const enduranceCases: readonly Case<BrokerHarness>[] = [
  brokerCase('moves 10 000 messages: none lost, none twice', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, {
      maxHeld: { messages: 1_000, bytes: 16_000_000 },
      onReceived: ackAtOnce,
    })
    for (let first = 0; first < 10_000; first += 500) {
      await connection.confirmed(run(topic, null, 500, first))
    }
    await stage.eventually(
      () => `${listener.received.length} of 10 000 arrived`,
      () => listener.received.length >= 10_000,
    )
    await listener.receiver.flush(stage.deadline())
    assert.equal(listener.received.length, 10_000)
    assert.equal(distinct([listener]), 10_000)
  }),

  brokerCase('loses nothing when it restarts in the middle', [fault('restart')], async (stage) => {
    const sending = await stage.connect()
    const receiving = await stage.connect()
    const topic = await stage.topic(sending)
    const listener = await receiving.listen(topic, {
      maxHeld: { messages: 100, bytes: 1_000_000 },
      onReceived: ackAtOnce,
    })
    const batches = Array.from({ length: 10 }, (_, n) => run(topic, null, 100, n * 100))
    for (const [n, batch] of batches.entries()) {
      const sent = insist(stage, sending, batch)
      if (n === 3 || n === 6) await stage.fault('restart')()
      await sent
    }
    await stage.eventually(
      () => `${distinct([listener])} of 1 000 arrived`,
      () => distinct([listener]) === 1_000,
    )
  }),

  brokerCase('keeps confirmed messages over a restart', [fault('restart')], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    await connection.confirmed(run(topic, null, 200))
    await stage.fault('restart')()
    const listener = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
    await stage.eventually(
      () => `${distinct([listener])} of 200 arrived after the restart`,
      () => distinct([listener]) === 200,
    )
  }),

  brokerCase(
    'goes on delivering to a consumer that lived through a restart',
    [fault('restart')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection)
      const listener = await connection.listen(topic, { onReceived: ackAtOnce })
      await connection.confirmed([draft(topic, { body: 'before' })])
      await stage.fault('restart')()
      await insist(stage, connection, [draft(topic, { body: 'after' })])
      await stage.eventually(
        () => `arrived: ${listener.bodies.join(', ')}`,
        () => listener.bodies.includes('before') && listener.bodies.includes('after'),
      )
    },
  ),

  brokerCase('shows in its depth what is stored and not finished', [inspector], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection, { groups: ['a', 'b'] })
    const { inspect } = connection.broker
    const group = { kind: 'group', topic, group: 'a', delayMs: 0 } as const
    await connection.confirmed(run(topic, null, 12))
    assert.equal(await inspect?.depth(group), 12)
    const seen = await inspect?.browse(group, 5)
    assert.deepEqual(
      seen?.map(({ body }) => Buffer.from(body!).toString()),
      ['-:0', '-:1', '-:2', '-:3', '-:4'],
    )
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    await stage.eventually(
      () => `${listener.received.length} of 12 arrived`,
      () => listener.received.length === 12,
    )
    await listener.receiver.flush(stage.deadline())
    assert.equal(await inspect?.depth(group), 0)
    assert.equal(await inspect?.depth({ ...group, group: 'b' }), 12)
  }),
]
