import assert from 'node:assert/strict'

import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener, Received } from '../listener.ts'
import { capability, ordering } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

async function came(stage: Stage, listener: Listener, count: number): Promise<void> {
  await stage.eventually(
    () => `${listener.received.length} of ${count} arrived`,
    () => listener.received.length >= count,
  )
}

/** Settles the oldest held delivery again and again until `count` have come. */
async function workOff(stage: Stage, listener: Listener, count: number): Promise<void> {
  await stage.eventually(
    () => `${listener.received.length} of ${count} arrived`,
    () => {
      for (const one of listener.held) listener.ack(one)
      return listener.received.length >= count
    },
  )
}

/** How much comes, and when nothing comes: bounds, pause, stop and close. */
export const intakeCases: readonly Case<BrokerHarness>[] = [
  brokerCase('stops delivering at the bound on messages held', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    let most = 0
    const listener = await connection.listen(topic, {
      maxHeld: { messages: 7, bytes: 1_000_000 },
      onReceived: (_, by) => (most = Math.max(most, by.held.size)),
    })
    await connection.confirmed(run(topic, null, 50))
    await came(stage, listener, 7)
    await stage.quiet('more than the bound is held', () => listener.received.length)
    await workOff(stage, listener, 50)
    assert.ok(most <= 7, `${most} deliveries were held at once, the bound is 7`)
  }),

  brokerCase('stops delivering at the bound on bytes held', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    let most = 0
    const listener = await connection.listen(topic, {
      maxHeld: { messages: 1_000, bytes: 10_000 },
      onReceived: (_, by) => (most = Math.max(most, heldBytes(by))),
    })
    const body = new Uint8Array(2_000)
    await connection.confirmed(Array.from({ length: 30 }, () => draft(topic, { body })))
    await workOff(stage, listener, 30)
    assert.ok(
      most <= 12_000,
      `${most} bytes were held at once, the bound is 10 000 and one message`,
    )
  }),

  brokerCase('delivers a message that is larger than the bound on bytes', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, {
      maxHeld: { messages: 10, bytes: 100 },
      onReceived: ackAtOnce,
    })
    const body = new Uint8Array(5_000)
    await connection.confirmed([draft(topic, { body }), draft(topic), draft(topic, { body })])
    await came(stage, listener, 3)
  }),

  brokerCase('delivers nothing while paused, everything after', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, { onReceived: ackAtOnce })
    listener.receiver.pause()
    await connection.confirmed(run(topic, null, 30))
    await stage.quiet('delivered while paused', () => listener.received.length)
    assert.equal(listener.received.length, 0, 'pause() before the first delivery covers it')
    listener.receiver.resume()
    await came(stage, listener, 30)
    await stage.quiet('delivered twice', () => listener.received.length)
  }),

  brokerCase('settles while paused', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    await connection.confirmed(run(topic, null, 3))
    await came(stage, listener, 3)
    listener.receiver.pause()
    for (const one of listener.held) listener.ack(one)
    await listener.receiver.flush(stage.deadline())
    await connection.close()
    await nothingLeft(stage, topic)
  }),

  brokerCase(
    'pauses one source and leaves the others',
    [onePause(), ordering('partition')],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { ordering: 'partition', partitions: 4 })
      const listener = await connection.listen(topic, {
        ordering: 'partition',
        onReceived: ackAtOnce,
      })
      const keys = Array.from({ length: 16 }, (_, n) => `k${n}`)
      const toAll = (): Promise<void> =>
        connection.confirmed(keys.map((key) => draft(topic, { key })))
      await toAll()
      await came(stage, listener, 16)
      const paused = listener.received[0]!.delivery.source
      const ofPaused = (): number => of(listener.received, paused)
      const before = ofPaused()
      assert.ok(before < 16, 'all keys share one source')
      listener.receiver.pause([paused])
      await toAll()
      await came(stage, listener, 32 - before)
      await stage.quiet('the paused source delivered', ofPaused)
      assert.equal(ofPaused(), before)
      listener.receiver.resume([paused])
      await came(stage, listener, 32)
    },
  ),

  brokerCase('delivers nothing after stop(), and still settles', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic, {
      maxHeld: { messages: 10, bytes: 1_000_000 },
    })
    await connection.confirmed(run(topic, null, 15))
    await came(stage, listener, 10)
    await listener.stop(stage.deadline())
    for (const one of listener.held) listener.ack(one)
    await listener.receiver.flush(stage.deadline())
    await stage.quiet('delivered after stop()', () => listener.received.length)
    await listener.stop(stage.deadline())
    await connection.close()
    const rest = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
    await came(stage, rest, 5)
    await stage.quiet('what was settled after stop() came again', () => rest.received.length)
  }),

  brokerCase('gives back at close what is unsettled, and only that', [], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection)
    const listener = await connection.listen(topic)
    await connection.confirmed(run(topic, null, 10))
    await came(stage, listener, 10)
    const finished = listener.received.slice(0, 4)
    for (const one of finished) listener.ack(one)
    await listener.close(stage.deadline())
    await listener.close(stage.deadline())
    const rest = await (await stage.connect()).listen(topic, { onReceived: ackAtOnce })
    await came(stage, rest, 6)
    await stage.quiet('finished messages came again', () => rest.received.length)
  }),

  brokerCase(
    'goes on for one receiver when another of the connection closes',
    [],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { groups: ['a', 'b'] })
      const a = await connection.listen(topic, { group: 'a', onReceived: ackAtOnce })
      const b = await connection.listen(topic, { group: 'b', onReceived: ackAtOnce })
      await a.close(stage.deadline())
      await connection.confirmed(run(topic, null, 5))
      await came(stage, b, 5)
    },
  ),
]

async function nothingLeft(stage: Stage, topic: string): Promise<void> {
  const connection = await stage.connect()
  const rest = await connection.listen(topic, { onReceived: ackAtOnce })
  await connection.confirmed([draft(topic, { body: 'marker' })])
  await came(stage, rest, 1)
  await stage.quiet('finished messages came again', () => rest.received.length)
  assert.deepEqual(rest.bodies, ['marker'])
}

function heldBytes(listener: Listener): number {
  let bytes = 0
  for (const { envelope } of listener.held) bytes += envelope.body?.length ?? 0
  return bytes
}

function of(received: readonly Received[], source: unknown): number {
  return received.filter(({ delivery }) => delivery.source === source).length
}

function onePause(): ReturnType<typeof capability> {
  return capability("pause 'source'", (has) => has.pause === 'source')
}
