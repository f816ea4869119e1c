import assert from 'node:assert/strict'

import type { Envelope } from '../../../../src/contract/message.ts'
import type { Case } from '../../case.ts'
import { ackAtOnce } from '../connection.ts'
import { draft, run } from '../envelopes.ts'
import type { BrokerHarness } from '../harness.ts'
import type { Listener } from '../listener.ts'
import { type Received } from '../listener.ts'
import { capability, ordering } from '../needs.ts'
import { brokerCase, type Stage } from '../stage.ts'

const keyRuns = capability('keyRunsInOneSend', (has) => has.keyRunsInOneSend)

/** `keys` runs of `each` messages, dealt out like cards. */
function interleaved(topic: string, keys: number, each: number): readonly Envelope[] {
  const runs = Array.from({ length: keys }, (_, key) => run(topic, `k${key}`, each))
  return Array.from({ length: each }, (_, n) => runs.map((one) => one[n]!)).flat()
}

/** Fails when the first deliveries of a key are not in the order 0, 1, 2, … */
function assertKeyOrder(bodies: readonly string[], each: number): void {
  const seen = new Map<string, number[]>()
  for (const body of bodies) {
    const [key, n] = body.split(':') as [string, string]
    const numbers = seen.get(key) ?? []
    if (!numbers.includes(Number(n))) numbers.push(Number(n))
    seen.set(key, numbers)
  }
  const whole = Array.from({ length: each }, (_, n) => n)
  for (const [key, numbers] of seen) assert.deepEqual(numbers, whole, `order of key ${key}`)
}

async function all(stage: Stage, listeners: readonly Listener[], count: number): Promise<void> {
  const distinct = (): number =>
    new Set(listeners.flatMap(({ received }) => received.map((one) => one.envelope.id))).size
  await stage.eventually(
    () => `${distinct()} of ${count} messages arrived`,
    () => distinct() >= count,
  )
}

/** Keeps track of who holds a key, and fails when two consumers do. */
class Holders {
  readonly overlaps: string[] = []
  readonly #holding = new Map<string, { readonly by: Listener; count: number }>()

  take(key: string, by: Listener): void {
    const holder = this.#holding.get(key)
    if (holder === undefined) this.#holding.set(key, { by, count: 1 })
    else if (holder.by === by) holder.count++
    else this.overlaps.push(key)
  }

  give(key: string, by: Listener): void {
    const holder = this.#holding.get(key)
    if (holder?.by === by && --holder.count === 0) this.#holding.delete(key)
  }
}

/** Order of one key, on the way in and on the way out. */
export const orderingCases: readonly Case<BrokerHarness>[] = [
  brokerCase('delivers the messages of each key in order', [ordering('key')], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection, { ordering: 'key' })
    const listener = await connection.listen(topic, {
      ordering: 'key',
      maxHeld: { messages: 30, bytes: 1_000_000 },
      // Settled in another order than delivered: that must not change what comes next.
      onReceived: (received, by) => {
        const turns = by.received.length % 3
        later(stage, turns, () => by.ack(received))
      },
    })
    await connection.confirmed(interleaved(topic, 10, 20))
    await all(stage, [listener], 200)
    assertKeyOrder(listener.bodies, 20)
  }),

  brokerCase('delivers each partition in order', [ordering('partition')], async (stage) => {
    const connection = await stage.connect()
    const topic = await stage.topic(connection, { ordering: 'partition', partitions: 3 })
    const listener = await connection.listen(topic, {
      ordering: 'partition',
      onReceived: ackAtOnce,
    })
    await connection.confirmed(interleaved(topic, 9, 20))
    await all(stage, [listener], 180)
    assertKeyOrder(listener.bodies, 20)
    assertOneSourcePerKey(listener.received)
  }),

  brokerCase(
    'never lets two consumers hold one key at a time',
    [ordering('key')],
    async (stage) => {
      const connections = [await stage.connect(), await stage.connect()]
      const topic = await stage.topic(connections[0]!, { ordering: 'key', partitions: 4 })
      const holders = new Holders()
      const onReceived = (received: Received, by: Listener): void => {
        const key = Buffer.from(received.envelope.key!).toString()
        holders.take(key, by)
        later(stage, 2, () => {
          holders.give(key, by)
          by.ack(received)
        })
      }
      const listeners = await Promise.all(
        connections.map((one) => {
          const maxHeld = { messages: 10, bytes: 1_000_000 }
          return one.listen(topic, { ordering: 'key', maxHeld, onReceived })
        }),
      )
      // An odd number of keys, or two consumers taking turns would get the same keys by chance.
      await connections[0]!.confirmed(interleaved(topic, 13, 15))
      await all(stage, listeners, 195)
      assert.deepEqual(holders.overlaps, [], 'keys that two consumers held at once')
    },
  ),

  brokerCase(
    'never stores the later of two overlapping sends of a key first',
    [ordering('key'), keyRuns],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { ordering: 'key' })
      const sends = run(topic, 'k', 60).map((one) => connection.start([one]))
      await stage.eventually(
        () => 'some sends have no outcome',
        () => sends.every((one) => one.open === 0),
      )
      assert.ok(sends.every((one) => one.outcomes[0]?.status === 'confirmed'))
      const listener = await connection.listen(topic, { ordering: 'key', onReceived: ackAtOnce })
      await all(stage, [listener], 60)
      assertKeyOrder(listener.bodies, 60)
    },
  ),

  brokerCase(
    'stores nothing of a key behind one that failed in the same call',
    [ordering('key'), keyRuns, capability('a body limit below 16 MiB', limited)],
    async (stage) => {
      const connection = await stage.connect()
      const topic = await stage.topic(connection, { ordering: 'key' })
      const { maxBodyBytes } = connection.capabilities.limits(topic)
      const big = new Uint8Array(maxBodyBytes + 1)
      const outcomes = await connection.outcomes([
        draft(topic, { key: 'k', body: 'k:0' }),
        draft(topic, { key: 'k', body: big }),
        draft(topic, { key: 'other', body: 'other:0' }),
        draft(topic, { key: 'k', body: 'k:1' }),
        draft(topic, { body: 'no key' }),
      ])
      const words = outcomes.map((one) =>
        one.status === 'confirmed' ? 'confirmed' : one.error.code,
      )
      assert.deepEqual(words, ['confirmed', 'too-large', 'confirmed', 'predecessor', 'confirmed'])
      const listener = await connection.listen(topic, { ordering: 'key', onReceived: ackAtOnce })
      await all(stage, [listener], 3)
      await stage.quiet('a refused message was stored', () => listener.received.length)
      assert.deepEqual(listener.bodies.toSorted(), ['k:0', 'no key', 'other:0'])
    },
  ),
]

function limited(has: { limits(topic: string): { readonly maxBodyBytes: number } }): boolean {
  return has.limits('conformance').maxBodyBytes <= 16 * 1024 * 1024
}

function assertOneSourcePerKey(received: readonly Received[]): void {
  const sources = new Map<string, unknown>()
  for (const { envelope, delivery } of received) {
    const key = Buffer.from(envelope.key!).toString()
    assert.equal(sources.get(key) ?? delivery.source, delivery.source, `source of key ${key}`)
    sources.set(key, delivery.source)
  }
}

function later(stage: Stage, turns: number, task: () => void): void {
  if (turns === 0) task()
  else stage.clock.defer(() => later(stage, turns - 1, task))
}
