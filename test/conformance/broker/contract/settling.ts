import assert from 'node:assert/strict'

import type { Delivery } from '../../../../src/contract/broker.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce, type Connection } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener, Received } from '../listener.ts'
import { capability, nativeRetry } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

/** A listener that holds the one message of a new topic. */
async function holding(
  stage: Stage,
): Promise<{ topic: string; connection: Connection; listener: Listener; held: Received }> {
  const connection = await stage.connect()
  const topic = await stage.topic(connection)
  const listener = await connection.listen(topic)
  await connection.confirmed([draft(topic, { body: 'one' })])
  await stage.eventually(
    () => 'nothing arrived',
    () => listener.received.length > 0,
  )
  return { topic, connection, listener, held: listener.received[0]! }
}

/** What the next consumer gets: everything that is not finished, up to a marker sent last. */
async function leftFor(stage: Stage, topic: string): Promise<readonly Received[]> {
  const connection = await stage.connect()
  const listener = await connection.listen(topic, { onReceived: ackAtOnce })
  await connection.confirmed([draft(topic, { body: 'marker' })])
  await stage.eventually(
    () => 'the marker did not arrive',
    () => listener.bodies.includes('marker'),
  )
  await stage.still(() => listener.received.length)
  await connection.close()
  return listener.received.filter((one) => !isMarker(one))
}

function isMarker({ envelope }: Received): boolean {
  return envelope.body !== null && Buffer.from(envelope.body).toString() === 'marker'
}

/** Settles twice and says what has to be left for the next consumer. */
function settlesTwice(
  name: string,
  needs: Case<BrokerHarness>['needs'],
  first: (delivery: Delivery) => void,
  second: (delivery: Delivery) => void,
  left: number,
): Case<BrokerHarness> {
  return brokerCase(name, needs, async (stage) => {
    const { topic, connection, listener, held } = await holding(stage)
    listener.settle(held, first)
    second(held.delivery)
    second(held.delivery)
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    assert.equal((await leftFor(stage, topic)).length, left)
  })
}

/** Settling: once, by its holder, and never somebody else's message. */
export const settlingCases: readonly Case<BrokerHarness>[] = [
  brokerCase('hands out again what was not settled', [], async (stage) => {
    const { topic, connection } = await holding(stage)
    await connection.close()
    const left = await leftFor(stage, topic)
    assert.equal(left.length, 1)
    assert.equal(left[0]?.attempt, 1, 'a hand-over without a retry counts no attempt')
    assert.notEqual(left[0]?.redelivered, 'no', 'it may have been handled before')
  }),

  brokerCase('hands out again what was released, counting no attempt', [], async (stage) => {
    const { topic, connection, listener, held } = await holding(stage)
    listener.settle(held, (delivery) => delivery.release())
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    const left = await leftFor(stage, topic)
    assert.equal(left.length, 1)
    assert.equal(left[0]?.attempt, 1, 'a release counts no attempt')
    assert.notEqual(left[0]?.redelivered, 'no')
  }),

  brokerCase('does not hand out again what was acknowledged and flushed', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    await connection.confirmed(run(topic, null, 100))
    await stage.eventually(
      () => `${listener.received.length} of 100 arrived`,
      () => listener.received.length === 100,
    )
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    assert.deepEqual(await leftFor(stage, topic), [])
  }),

  settlesTwice(
    'lets the first settling count: ack, then release',
    [],
    (delivery) => delivery.ack(),
    (delivery) => delivery.release(),
    0,
  ),
  settlesTwice(
    'lets the first settling count: release, then ack',
    [],
    (delivery) => delivery.release(),
    (delivery) => delivery.ack(),
    1,
  ),
  settlesTwice(
    'lets the first settling count: ack, then retry',
    [nativeRetry],
    (delivery) => delivery.ack(),
    (delivery) => delivery.retry?.(1),
    0,
  ),
  settlesTwice(
    'takes an ack once however often it is given',
    [],
    (delivery) => delivery.ack(),
    (delivery) => delivery.ack(),
    0,
  ),

  brokerCase('lets the first settling count: retry, then ack', [nativeRetry], async (stage) => {
    const { connection, listener, held, topic } = await holding(stage)
    listener.settle(held, (delivery) => delivery.retry?.(stage.shortRetryMs))
    held.delivery.ack()
    await listener.receiver.flush(stage.deadline())
    await stage.eventually(
      () => 'the message did not come again',
      () => listener.received.length === 2,
    )
    assert.equal(listener.received[1]?.attempt, 2)
    listener.ack(listener.received[1])
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    assert.deepEqual(await leftFor(stage, topic), [])
  }),

  brokerCase('ignores the settling of a delivery that was given back', [], async (stage) => {
    const { topic, listener, held } = await holding(stage)
    await listener.close(stage.deadline())
    const next = await stage.connect()
    const taker = await next.listen(topic)
    await stage.eventually(
      () => 'the message did not come to the next consumer',
      () => taker.received.length === 1,
    )
    held.delivery.ack()
    held.delivery.release()
    await stage.quiet('the stale settling moved it', () => taker.received.length)
    await next.close()
    assert.equal((await leftFor(stage, topic)).length, 1, 'a stale ack finished it')
  }),

  brokerCase('remembers settling out of order', [outOfOrder()], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    await connection.confirmed(run(topic, null, 20))
    await stage.eventually(
      () => `${listener.received.length} of 20 arrived`,
      () => listener.received.length === 20,
    )
    const kept = listener.received.filter((_, index) => index % 2 === 0)
    for (const one of listener.received.toReversed()) if (!kept.includes(one)) listener.ack(one)
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    const left = await leftFor(stage, topic)
    assert.deepEqual(idsOf(left), idsOf(kept))
  }),

  brokerCase('keeps what is unsettled when later messages are settled', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    await connection.confirmed(run(topic, null, 5))
    await stage.eventually(
      () => `${listener.received.length} of 5 arrived`,
      () => listener.received.length === 5,
    )
    for (const one of listener.received.slice(1)) listener.ack(one)
    await listener.receiver.flush(stage.deadline()).catch(() => undefined)
    await connection.close()
    const first = listener.received[0]!.envelope.id
    assert.ok(idsOf(await leftFor(stage, topic)).includes(first), 'the unsettled one was lost')
  }),
]

function idsOf(all: readonly Received[]): readonly (string | null)[] {
  return all.map(({ envelope }) => envelope.id).toSorted((one, other) => (one! < other! ? -1 : 1))
}

function outOfOrder(): ReturnType<typeof capability> {
  return capability(
    "progress.outOfOrder 'any' or 'encoded' with 10 holes",
    ({ progress }) => progress.outOfOrder !== 'none' && progress.maxHoles >= 10,
  )
}
