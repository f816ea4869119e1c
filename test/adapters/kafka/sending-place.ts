import { randomBytes } from 'node:crypto'

import type { KafkaDriver } from '../../../adapters/kafka/driver.ts'
import { kafkajsDriver } from '../../../adapters/kafka/kafkajs-driver.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { KafkaSender } from '../../../adapters/kafka/sender.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import type { BrokerContext, SendOutcome } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { NO_HEADERS, type Envelope } from '../../../src/contract/message.ts'
import { readAll, type PlainRecord } from '../../brokers/kafka-read.ts'
import { createTopic, type TopicWish } from '../../brokers/kafka-topics.ts'
import { makeDriver } from './client-under-test.ts'
import { wordOf } from './sending-desk.ts'

const LIMIT_MS = 60_000

/** A sender on real brokers, what it reported by message id, and what it told. */
export class SendingPlace {
  readonly sender: KafkaSender
  readonly outcomes: Map<string, SendOutcome> = new Map()
  readonly breaches: string[] = []
  readonly events: HoldfastEvent[] = []
  readonly health: string[] = []
  readonly #driver: KafkaDriver
  readonly #direct: readonly string[]
  #open = 0
  #onIdle: () => void = () => undefined

  private constructor(
    driver: KafkaDriver,
    options: ReturnType<typeof resolveOptions>,
    context: BrokerContext,
    direct: readonly string[],
    events: HoldfastEvent[],
  ) {
    const { admin } = driver
    const topics = new TopicTable({ ...context, admin, options })
    this.#driver = driver
    this.#direct = direct
    this.events = events
    this.sender = new KafkaSender({
      driver,
      topics,
      limits: () => ({ maxBodyBytes: 100_000_000 }),
      options,
      context,
      purpose: 'publish',
      health: (health) => void this.health.push(health),
    })
  }

  /** `direct` leads past proxies, for looking at what is stored. */
  static async open(
    given: KafkaOptions,
    direct: readonly string[] = [given.brokers ?? []].flat(),
  ): Promise<SendingPlace> {
    const events: HoldfastEvent[] = []
    const emit = Object.assign((event: HoldfastEvent) => void events.push(event), {
      wants: () => true,
    })
    const context: BrokerContext = {
      clock: systemClock,
      random: systemRandom,
      crash: noCrashes,
      emit,
      signal: new AbortController().signal,
    }
    const options = resolveOptions(given)
    const make = options.client === null ? makeDriver : kafkajsDriver
    const driver = await make(options, context)
    return new SendingPlace(driver, options, context, direct, events)
  }

  async topic(wish: TopicWish = {}): Promise<string> {
    const topic = `send-${randomBytes(5).toString('hex')}`
    await createTopic(this.#direct, topic, wish)
    return topic
  }

  /** Sends one call. */
  send(batch: readonly Envelope[], withinMs: number = 20_000): void {
    this.#open += batch.length
    this.sender.send(batch, systemClock.now() + withinMs, (from, to, outcome) => {
      for (let index = from; index < to; index++) {
        const id = (batch[index] as Envelope).id as string
        if (this.outcomes.has(id)) this.breaches.push(`${id} was reported twice`)
        this.outcomes.set(id, outcome)
      }
      this.#open -= to - from
      if (this.#open === 0) this.#onIdle()
    })
  }

  /** Until everything that was sent is reported. */
  async idle(): Promise<void> {
    if (this.#open === 0) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const text = `${this.#open} were not reported within ${LIMIT_MS} ms`
      timer = setTimeout(() => reject(new Error(text)), LIMIT_MS)
    })
    const idle = new Promise<void>((resolve) => void (this.#onIdle = resolve))
    await Promise.race([idle, late]).finally(() => clearTimeout(timer))
  }

  /** Words with their counts. */
  get summary(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const outcome of this.outcomes.values()) {
      const word = wordOf(outcome)
      counts[word] = (counts[word] ?? 0) + 1
    }
    return counts
  }

  ids(status: SendOutcome['status']): readonly string[] {
    return [...this.outcomes].filter(([, one]) => one.status === status).map(([id]) => id)
  }

  /** All records of a topic, as a plain client reads them. */
  read(topic: string): Promise<readonly PlainRecord[]> {
    return readAll(this.#direct, topic)
  }

  async close(): Promise<void> {
    await this.sender.close(systemClock.now() + 5_000)
    await this.#driver.close(systemClock.now() + 5_000)
  }
}

/** An envelope of these; its body is its id. */
export function message(topic: string, id: string, more: Partial<Envelope> = {}): Envelope {
  const { key = null } = more
  return {
    id,
    type: 'test',
    producer: 'test',
    to: { kind: 'topic', topic },
    orderKey: key === null ? null : Buffer.from(key).toString(),
    body: Buffer.from(id),
    headers: NO_HEADERS,
    contentType: 'text/plain',
    timeMs: 1_700_000_000_000,
    deliverAtMs: null,
    ...more,
    key,
  }
}

/** That many, of so many keys in turn; ids are `prefix-key-number`. */
export function keyed(topic: string, prefix: string, count: number, keys: number): Envelope[] {
  return Array.from({ length: count }, (_, at) => {
    const key = `k${at % keys}`
    const number = String(at).padStart(6, '0')
    return message(topic, `${prefix}-${key}-${number}`, { key: Buffer.from(key) })
  })
}

/** Ids of each key in the order of the log; only the first place of each counts. */
export function firstPlaces(records: readonly PlainRecord[]): ReadonlyMap<string, string[]> {
  const byKey = new Map<string, string[]>()
  const seen = new Set<string>()
  for (const { key, value } of records) {
    const [id, name] = [String(value), String(key)]
    if (seen.has(id)) continue
    seen.add(id)
    byKey.set(name, [...(byKey.get(name) ?? []), id])
  }
  return byKey
}
