import { randomBytes } from 'node:crypto'

import { afterEach, beforeAll, describe, expect, it } from 'vitest'

import { kafka, type KafkaOptions } from '../../../adapters/kafka/index.ts'
import type { Broker, Subscription } from '../../../src/contract/broker.ts'
import { sleep, systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import { Listener, type Received } from '../../conformance/broker/listener.ts'
import { eventually } from '../../conformance/wait.ts'
import { createTopic, plainKafka, withAdmin } from '../../brokers/kafka-topics.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { driverUnderTest } from './client-under-test.ts'
import { publish } from './test-member.ts'

const LIMIT_MS = 40_000
let brokers: string[] = []
const ends: (() => Promise<void>)[] = []

beforeAll(async () => {
  brokers = [(await sharedKafka()).broker]
}, 240_000)

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

/** A process of its own as far as Kafka can see. */
class Process {
  readonly broker: Broker
  readonly events: HoldfastEvent[] = []

  constructor(options: Partial<KafkaOptions> = {}) {
    this.broker = kafka({
      ...{ brokers, sessionTimeoutMs: 6_000, driver: driverUnderTest },
      ...options,
    } as KafkaOptions)
  }

  static async start(options: Partial<KafkaOptions> = {}): Promise<Process> {
    const process = new Process(options)
    const emit: Emit = Object.assign((event: HoldfastEvent) => void process.events.push(event), {
      wants: () => true,
    })
    const { signal } = new AbortController()
    const own = { clock: systemClock, random: systemRandom, crash: noCrashes, emit, signal }
    await process.broker.open(own)
    ends.push(() => process.end())
    return process
  }

  async listen(
    topic: string,
    onReceived: (received: Received, by: Listener) => void = () => undefined,
    given: Partial<Subscription> = {},
  ): Promise<Listener> {
    const listener: Listener = new Listener(systemClock, (one) => onReceived(one, listener))
    const receiver = await this.broker.receive(
      {
        topics: [topic],
        group: 'a',
        ordering: 'key',
        from: 'now',
        maxHeld: { messages: 200, bytes: 10_000_000 },
        ...given,
      },
      listener,
    )
    listener.attach(receiver)
    return listener
  }

  async end(): Promise<void> {
    await this.broker.close(systemClock.now() + 10_000)
  }
}

async function madeTopic(partitions = 4, config: Record<string, string> = {}): Promise<string> {
  const topic = `t-${randomBytes(4).toString('hex')}`
  await createTopic(brokers, topic, { partitions, config })
  return topic
}

function until(what: () => string, condition: () => boolean): Promise<void> {
  return eventually(systemClock, LIMIT_MS, what, condition)
}

const text = (received: Received): string =>
  received.envelope.body === null ? 'null' : Buffer.from(received.envelope.body).toString()

/** Handles each message for a while, one of a key at a time, and writes down what overlapped and what came twice. */
class Work {
  readonly order = new Map<string, number[]>()
  readonly twice: string[] = []
  readonly overlaps: string[] = []
  readonly done = new Set<string>()
  readonly #running = new Map<string, string>()

  /** What a process does with what it gets, as the core does it. */
  handler(name: string): (received: Received, by: Listener) => void {
    const lanes = new Map<string, Promise<void>>()
    const leaving = new Set<unknown>()
    return (received, by) => {
      by.revoking = async (sources) => {
        for (const source of sources) leaving.add(source)
        await Promise.all(lanes.values())
        for (const one of by.held) {
          if (sources.includes(one.delivery.source)) by.settle(one, (given) => given.release())
        }
      }
      const key = Buffer.from(received.envelope.key!).toString()
      const before = lanes.get(key) ?? Promise.resolve()
      const mine = before.then(() => {
        const isGone = !by.held.has(received) || leaving.has(received.delivery.source)
        return isGone ? undefined : this.#handle(name, key, received, by)
      })
      lanes.set(key, mine)
    }
  }

  async #handle(name: string, key: string, received: Received, by: Listener): Promise<void> {
    const body = text(received)
    const other = this.#running.get(key)
    if (other !== undefined) this.overlaps.push(`${key} by ${other} and ${name}`)
    this.#running.set(key, name)
    if (this.done.has(body)) this.twice.push(body)
    else {
      const numbers = this.order.get(key) ?? []
      numbers.push(Number(body.split(':')[1]))
      this.order.set(key, numbers)
    }
    this.done.add(body)
    await sleep(systemClock, 4)
    this.#running.delete(key)
    by.ack(received)
  }
}

describe('receiving from a real broker', () => {
  it('moves keys between consumers that come and go, with nothing lost, twice or out of order', async () => {
    const topic = await madeTopic(6)
    const work = new Work()
    const first = await Process.start()
    await first.listen(topic, work.handler('first'))
    const total = 3_000
    const keys = 30
    let sent = 0
    const producing = (async () => {
      while (sent < total) {
        const batch = Array.from({ length: 50 }, (_, n) => {
          const number = sent + n
          const key = `k${number % keys}`
          return {
            key,
            value: `${key}:${Math.floor(number / keys)}`,
            partition: (number % keys) % 6,
          }
        })
        await publish(brokers, topic, batch)
        sent += batch.length
        await sleep(systemClock, 50)
      }
    })()
    for (let round = 0; round < 5; round++) {
      const guest = await Process.start()
      await guest.listen(topic, work.handler(`guest ${round}`))
      await sleep(systemClock, 700)
      await guest.end()
      await sleep(systemClock, 300)
    }
    await producing
    await until(
      () => `${work.done.size} of ${total} are done`,
      () => work.done.size >= total,
    )
    expect(work.overlaps).toEqual([])
    for (const [key, numbers] of work.order) {
      expect(numbers, `order of ${key}`).toEqual(Array.from({ length: total / keys }, (_, n) => n))
    }
    expect(work.twice).toEqual([])
  })

  it('keeps what is handled for longer than three sessions, without joining anew', async () => {
    const topic = await madeTopic(2)
    const process = await Process.start({ sessionTimeoutMs: 1_500 })
    const listener = await process.listen(topic)
    await publish(brokers, topic, [
      { value: 'slow', key: 'a' },
      { value: 'other', key: 'b' },
    ])
    await until(
      () => 'nothing came',
      () => listener.received.length === 2,
    )
    await sleep(systemClock, 5_000)
    expect(listener.lostSources).toEqual([])
    for (const one of listener.held) listener.ack(one)
    await listener.receiver.flush(systemClock.now() + 5_000)
    expect(listener.received).toHaveLength(2)
    expect(process.events.filter(({ type }) => type === 'settle.stale')).toEqual([])
  })

  it('reads what plain kafkajs wrote: ids, times, headers, tombstones', async () => {
    const topic = await madeTopic(1)
    const process = await Process.start()
    const listener = await process.listen(topic)
    const producer = plainKafka(brokers).producer()
    await producer.connect()
    const timestamp = '1700000000123'
    await producer.send({
      topic,
      messages: [
        {
          key: 'k',
          value: 'v',
          timestamp,
          headers: { a: ['1', '2'], bin: Buffer.from([0xff, 0]) },
        },
        { key: 'k', value: null, headers: { ce_id: 'event-1', ce_source: '/shop', ce_type: 'x' } },
      ],
    })
    await producer.disconnect()
    await until(
      () => 'not all came',
      () => listener.received.length === 2,
    )
    const [plain, event] = listener.received.map(({ envelope }) => envelope)
    expect(plain).toMatchObject({
      id: `${topic}/0/0/${timestamp}`,
      timeMs: 1_700_000_000_123,
      orderKey: 'k',
      headers: [
        ['a', '1'],
        ['a', '2'],
        ['bin', Buffer.from([0xff, 0])],
      ],
    })
    expect(event).toMatchObject({ id: 'event-1', producer: '/shop', type: 'x', body: null })
  })

  it('shares a group with plain kafkajs, which commits for itself', async () => {
    const topic = await madeTopic(4)
    const process = await Process.start()
    const mine = await process.listen(topic, (received, by) => by.ack(received))
    const plain = plainKafka(brokers).consumer({ groupId: `${topic}.a`, sessionTimeout: 6_000 })
    const theirs: string[] = []
    await plain.connect()
    await plain.subscribe({ topic, fromBeginning: true })
    await plain.run({
      eachMessage: async ({ message }) => void theirs.push(message.value!.toString()),
    })
    let sent = 0
    while (theirs.length === 0) {
      await publish(
        brokers,
        topic,
        [0, 1, 2, 3].map((partition) => ({ value: String(sent++), partition })),
      )
      await sleep(systemClock, 100)
    }
    await until(
      () => `${mine.received.length} and ${theirs.length} of ${sent} came`,
      () => new Set([...mine.bodies, ...theirs]).size === sent,
    )
    await plain.disconnect()
    await publish(
      brokers,
      topic,
      [0, 1, 2, 3].map((p) => ({ value: `late ${p}`, partition: p })),
    )
    await until(
      () => `mine: ${mine.bodies.filter((one) => one.startsWith('late')).join(', ')}`,
      () => new Set(mine.bodies.filter((one) => one.startsWith('late'))).size === 4,
    )
    expect(theirs.length).toBeGreaterThan(0)
  })

  it('goes past what compaction took away, to the very end', async () => {
    const topic = await madeTopic(1, {
      'cleanup.policy': 'compact',
      'segment.ms': '100',
      'min.cleanable.dirty.ratio': '0.001',
      'delete.retention.ms': '0',
      'max.compaction.lag.ms': '100',
    })
    const count = 200
    for (let round = 0; round < 4; round++) {
      await publish(
        brokers,
        topic,
        Array.from({ length: count }, (_, n) => ({
          key: `k${n % 5}`,
          value: round === 2 && n % 5 === 4 ? null : `${round}:${n}`,
        })),
      )
      await sleep(systemClock, 300)
    }
    await publish(brokers, topic, [{ key: 'last', value: 'last' }])
    const process = await Process.start()
    const countIn = async (): Promise<number> => {
      const reader = await Process.start()
      const listener = await reader.listen(topic, undefined, {
        group: `look-${randomBytes(3).toString('hex')}`,
        from: 'earliest',
        maxHeld: { messages: 10_000, bytes: 1e8 },
      })
      await until(
        () => 'the last one did not come',
        () => listener.bodies.includes('last'),
      )
      const { length } = listener.received
      await reader.end()
      return length
    }
    while ((await countIn()) > 4 * count * 0.75) await sleep(systemClock, 2_000)
    const listener = await process.listen(topic, (received, by) => by.ack(received), {
      from: 'earliest',
    })
    await until(
      () => 'the last one did not come',
      () => listener.bodies.includes('last'),
    )
    await listener.receiver.flush(systemClock.now() + 5_000)
    const offsets = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(topic))
    const committed = await withAdmin(brokers, (admin) =>
      admin.fetchOffsets({ groupId: `${topic}.a`, topics: [topic] }),
    )
    expect(committed[0]?.partitions[0]?.offset).toBe(offsets[0]?.high)
    expect(listener.received.length).toBeLessThan(4 * count)
  }, 180_000)

  it('tells what retention took before it was read, and goes on', async () => {
    const topic = await madeTopic(1)
    const process = await Process.start()
    const listener = await process.listen(topic, (received, by) => by.ack(received))
    await publish(brokers, topic, [{ value: 'a' }])
    await until(
      () => 'nothing came',
      () => listener.received.length === 1,
    )
    await listener.close(systemClock.now() + 5_000)
    await publish(
      brokers,
      topic,
      ['b', 'c', 'd', 'e'].map((value) => ({ value })),
    )
    await withAdmin(brokers, async (admin) => {
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] })
    })
    const next = await process.listen(topic, (received, by) => by.ack(received))
    await until(
      () => `came: ${next.bodies.join(', ')}`,
      () => next.received.length === 2,
    )
    expect(next.bodies).toEqual(['d', 'e'])
    const told = process.events.flatMap((event) =>
      event.type === 'warning' && event.code === 'kafka.data-loss' ? [event.message] : [],
    )
    expect(told[0]).toContain('2 offsets')
  })

  it('stops and starts again and again, with nothing lost and nothing twice', async () => {
    const topic = await madeTopic(3)
    const seen: string[] = []
    const total = 600
    const producing = (async () => {
      for (let sent = 0; sent < total; sent += 10) {
        const batch = Array.from({ length: 10 }, (_, n) => ({
          value: String(sent + n),
          partition: (sent + n) % 3,
        }))
        await publish(brokers, topic, batch)
      }
    })()
    for (let round = 0; round < 200 && seen.length < total; round++) {
      const process = await Process.start()
      const listener = await process.listen(
        topic,
        (received, by) => {
          seen.push(text(received))
          by.ack(received)
        },
        { ordering: 'none' },
      )
      await sleep(systemClock, 50 + (round % 5) * 30)
      await listener.close(systemClock.now() + 5_000)
      await process.end()
    }
    await producing
    expect(seen.length).toBe(total)
    expect(new Set(seen).size).toBe(total)
  })
})
