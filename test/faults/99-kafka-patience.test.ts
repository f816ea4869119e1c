import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { kafka } from '../../adapters/kafka/index.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import type { HoldfastEvent } from '../../src/contract/events.ts'
import { topic, type Topic } from '../../src/contract/topic.ts'
import { constant } from '../../src/policy/backoff.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { Rig } from '../adapters/kafka/harness.ts'
import { until } from '../brokers/handshake.ts'
import { startKafka } from '../brokers/kafka.ts'
import { depthOf } from '../brokers/kafka-read.ts'
import { plainKafka } from '../brokers/kafka-topics.ts'
import type { Fault } from '../brokers/proxy/rules.ts'

const { node, remove } = await startKafka()
afterAll(remove)

const SESSION_MS = 6_000
const GROUP = 'g'
const MEBIBYTE = 1_048_576
const LIMIT_MS = 120_000
/** Ten session timeouts; five minutes when that is asked for. */
const OFF_MS = process.env['HOLDFAST_LONG'] === 'true' ? 300_000 : 60_000

const KEPT: ReadonlySet<string> = new Set(['breaker.state', 'message.dead', 'source.lost'])

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

/** What is published. */
interface Item {
  readonly key: string
  readonly n: number
}

type Wishes = Partial<ConstructorParameters<typeof ReliableConsumer<Topic<Item>>>[0]>

/** A topic with its group behind a proxy that counts what members say to their group. */
class Place {
  readonly items: Topic<Item>
  readonly rig: Rig
  readonly events: HoldfastEvent[] = []
  readonly publisher: ReliablePublisher
  readonly #topics: Readonly<Record<string, { groups: string[]; partitions: number }>>
  readonly #joins: Fault

  private constructor(rig: Rig, partitions: number) {
    const name = `patience-${randomBytes(4).toString('hex')}`
    this.rig = rig
    this.items = topic<Item>(name, { key: ({ key }) => key })
    this.#topics = { [name]: { groups: [GROUP], partitions } }
    // A rule that changes nothing counts.
    this.#joins = rig.proxies[0]!.rule('JoinGroup', { do: 'delay', ms: 0 })
    this.publisher = new ReliablePublisher({
      broker: kafka({ brokers: rig.direct }),
      topics: this.#topics,
      deadlineMs: LIMIT_MS,
      logging: 'silent',
    })
    cleanUps.push(() => this.publisher.close())
  }

  static async open(partitions = 4): Promise<Place> {
    const rig = await Rig.open(node)
    cleanUps.push(() => rig.close())
    return new Place(rig, partitions)
  }

  /** How often somebody joined the group so far. */
  get joins(): number {
    return this.#joins.fired
  }

  get dead(): Promise<bigint> {
    return depthOf(this.rig.direct, `${this.items.name}.${GROUP}.dead`)
  }

  /** Starts a consumer whose handler is this. */
  async consume(
    handler: (item: Item, signal: AbortSignal) => unknown,
    wishes: Wishes = {},
  ): Promise<ReliableConsumer<Topic<Item>>> {
    const consumer = new ReliableConsumer({
      broker: kafka({ brokers: this.rig.brokers, sessionTimeoutMs: SESSION_MS }),
      topic: this.items,
      group: GROUP,
      topics: this.#topics,
      logging: 'silent',
      // One for each message would fill the heap that is looked at.
      on: (event: HoldfastEvent) => void (KEPT.has(event.type) && this.events.push(event)),
      ...(wishes as object),
      handler: (item: Item, { signal }: { signal: AbortSignal }) => handler(item, signal),
    })
    cleanUps.push(() => consumer.close({ timeoutMs: 5_000 }).catch(() => undefined))
    await consumer.start()
    return consumer
  }

  publishAll(keys: readonly string[], each: number): Promise<unknown> {
    const all = keys.flatMap((key) => Array.from({ length: each }, (_, n) => ({ key, n })))
    return this.publisher.publishBatch(this.items, all)
  }

  told(type: HoldfastEvent['type']): number {
    return this.events.filter((event) => event.type === type).length
  }
}

/** Bytes that something still holds. What was not collected yet says more of the runner than of us. */
function heapInUse(): number {
  setFlagsFromString('--expose_gc')
  ;(runInNewContext('gc') as () => void)()
  return process.memoryUsage().heapUsed
}

const soon = (what: () => string, isSo: () => boolean, limitMs = LIMIT_MS): Promise<void> =>
  until(what, () => Promise.resolve(isSo()), limitMs)

const names = (count: number): readonly string[] => Array.from({ length: count }, (_, n) => `k${n}`)

describe('a consumer of Kafka that takes its time', () => {
  it('has handlers three times longer than the session, and no rebalance', async () => {
    const place = await Place.open()
    const handled: string[] = []
    await place.consume(
      async ({ key, n }) => {
        await pause(3 * SESSION_MS)
        handled.push(`${key}-${n}`)
      },
      { handlerTimeoutMs: 10 * SESSION_MS, concurrency: 8 },
    )
    const joins = place.joins
    await place.publishAll(names(8), 2)
    await soon(
      () => '16 handled',
      () => handled.length === 16,
    )
    expect(new Set(handled).size).toBe(16)
    expect(place.joins, 'somebody joined again').toBe(joins)
    expect(joins).toBeGreaterThan(0)
    expect(place.told('source.lost')).toBe(0)
  })

  it(
    'waits behind a breaker for ten sessions, and nothing dies',
    { timeout: OFF_MS + 300_000 },
    async () => {
      const place = await Place.open()
      let isOff = true
      let failures = 0
      const handled = new Set<string>()
      await place.consume(
        ({ key, n }) => {
          if (isOff) {
            failures++
            throw new Error('the downstream is off')
          }
          handled.add(`${key}-${n}`)
        },
        {
          breaker: { volumeThreshold: 5, resetMs: 2_000 },
          retry: { attempts: 5, backoff: constant(50) },
        },
      )
      const joins = place.joins
      await place.publishAll(names(40), 25)
      await soon(
        () => 'the breaker to open',
        () =>
          place.events.some((event) => event.type === 'breaker.state' && event.state === 'open'),
      )
      const before = failures
      await pause(OFF_MS)
      expect(failures - before, 'more than probes was tried').toBeLessThan(OFF_MS / 2_000 + 20)
      isOff = false
      await soon(
        () => '1 000 handled',
        () => handled.size === 1_000,
      )
      expect(await place.dead).toBe(0n)
      expect(place.told('message.dead')).toBe(0)
      expect(place.joins, 'somebody joined again').toBe(joins)
      expect(place.told('source.lost')).toBe(0)
    },
  )

  it(
    'has one key in a long back-off while its partition carries everything else',
    { timeout: OFF_MS + 300_000 },
    async () => {
      const place = await Place.open(1)
      let isBad = true
      let done = 0
      let failures = 0
      const bad: number[] = []
      await place.consume(
        ({ key, n }) => {
          if (key !== 'bad') return void done++
          if (isBad) throw new Error(`not yet, for the ${++failures}th time`)
          bad.push(n)
        },
        { retry: { attempts: 5, backoff: constant(OFF_MS) }, concurrency: 32 },
      )
      await place.publishAll(['bad'], 20)
      const heap = heapInUse()
      const startedAt = performance.now()
      let published = 0
      while (performance.now() - startedAt < OFF_MS - 10_000) {
        await place.publishAll(names(100), 20)
        published += 2_000
        // Who publishes faster than is handled would wait for the rest until the back-off is over.
        await soon(
          () => `${done} of ${published} handled, with 50 000 left at most`,
          () => published - done <= 50_000,
        )
      }
      await soon(
        () => `${done} of ${published} handled`,
        () => done >= published,
      )
      const tookS = (performance.now() - startedAt) / 1_000
      console.log(`${Math.round(published / tookS)} messages a second beside the failing key`)
      expect(published, 'too little went by to show anything').toBeGreaterThan(200_000)
      expect([failures, ...bad]).toEqual([1])
      expect((heapInUse() - heap) / MEBIBYTE).toBeLessThan(50)
      isBad = false
      await soon(
        () => 'the failing key handled',
        () => bad.length === 20,
      )
      expect(bad).toEqual(Array.from({ length: 20 }, (_, n) => n))
      expect(place.told('source.lost')).toBe(0)
      expect(await place.dead).toBe(0n)
    },
  )
})

describe('holdfast beside plain kafkajs', () => {
  it('handles what a plain producer sends, and a plain consumer gets what it publishes', async () => {
    const place = await Place.open()
    const handled: Item[] = []
    await place.consume((item) => handled.push(item))
    const plain = plainKafka(place.rig.direct)
    const [producer, consumer] = [plain.producer(), plain.consumer({ groupId: 'plain' })]
    cleanUps.push(
      () => producer.disconnect(),
      () => consumer.disconnect(),
    )
    const seen: { key: string | undefined; body: unknown; type: string }[] = []
    await consumer.connect()
    await consumer.subscribe({ topic: place.items.name, fromBeginning: true })
    await consumer.run({
      eachMessage: ({ message }) => {
        const { key, value, headers } = message
        const body: unknown = JSON.parse(String(value))
        seen.push({ key: key?.toString(), body, type: String(headers?.['ce_type']) })
        return Promise.resolve()
      },
    })
    await producer.connect()
    const value = (n: number): string => JSON.stringify({ key: 'plain', n })
    for (let n = 0; n < 50; n++) {
      await producer.send({
        topic: place.items.name,
        messages: [{ key: 'plain', value: value(n) }],
      })
    }
    await place.publishAll(['ours'], 50)
    await soon(
      () => `100 handled and seen`,
      () => handled.length >= 100 && seen.length >= 100,
    )
    for (const key of ['plain', 'ours']) {
      const mine = handled.filter((item) => item.key === key).map(({ n }) => n)
      expect(mine).toEqual(Array.from({ length: 50 }, (_, n) => n))
    }
    const ours = seen.filter(({ key }) => key === 'ours')
    expect(ours.map(({ type }) => type)).toEqual(ours.map(() => place.items.name))
    expect(ours).toHaveLength(50)
  })
})
