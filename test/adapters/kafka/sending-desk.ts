import type { Health } from '../../../adapters/kafka/health.ts'
import type { Resolved } from '../../../adapters/kafka/options.ts'
import { KafkaSender } from '../../../adapters/kafka/sender.ts'
import type { TopicLayout } from '../../../adapters/kafka/topics.ts'
import type { SendOutcome } from '../../../src/contract/broker.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { NO_HEADERS, type Destination, type Envelope } from '../../../src/contract/message.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { FakeDriver } from './fake-producers.ts'

/** What the sender believes about topics, as the test has it. */
export class FakeTopics {
  readonly layouts: Map<string, TopicLayout> = new Map()
  /** Looks fail with this. */
  error: Error | null = null
  /** Looks wait until it is false. */
  looks: number = 0
  staleTopics: string[] = []
  readonly #seen = new Map<string, TopicLayout | null>()

  set(
    topic: string,
    leaders: readonly (number | null)[],
    maxMessageBytes: number = 1_048_588,
  ): void {
    this.layouts.set(topic, { topic, leaders, maxMessageBytes, compression: 'producer' })
  }

  topicOf(to: Destination): string {
    if (to.kind === 'reply') throw new Error('no replies')
    if (to.kind === 'topic') return to.topic
    const group = `${to.topic}.${to.group}`
    return to.kind === 'dead' ? `${group}.dead` : `${group}.retry.${to.delayMs}`
  }

  find(topic: string): TopicLayout | null {
    return this.#seen.get(topic) ?? null
  }

  async look(topic: string): Promise<TopicLayout | null> {
    this.looks++
    await Promise.resolve()
    if (this.error !== null) throw this.error
    const layout = this.layouts.get(topic) ?? null
    this.#seen.set(topic, layout)
    return layout
  }

  stale(topic: string): void {
    this.staleTopics.push(topic)
  }
}

/** A sender over fake producers, on a clock of its own. */
export class SendingDesk {
  readonly clock: VirtualClock = new VirtualClock()
  readonly driver: FakeDriver = new FakeDriver()
  readonly topics: FakeTopics = new FakeTopics()
  readonly events: HoldfastEvent[] = []
  readonly health: Health[] = []
  readonly sender: KafkaSender
  /** Words by body; a second report of one is a breach. */
  readonly outcomes: Map<string, SendOutcome> = new Map()
  readonly breaches: string[] = []
  maxBodyBytes: number = 1_000_000

  constructor(options: Partial<Resolved> = {}, seed: number = 1) {
    this.topics.set('t', [1, 1, 2, 2])
    const emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    this.sender = new KafkaSender({
      driver: this.driver,
      topics: this.topics,
      limits: () => ({ maxBodyBytes: this.maxBodyBytes }),
      options: {
        partitioner: (key) => Number(key[0]) - 48,
        frozenPartitionCount: new Map(),
        producersPerLeader: 1,
        ...options,
      },
      context: { clock: this.clock, random: seededRandom(seed), emit },
      purpose: 'publish',
      health: (health) => void this.health.push(health),
    })
  }

  /**
   * Sends bodies in one call: `'0a'` goes to partition 0 by its key `0`, `'0a*k'` has order key `k`
   * instead of its key, `'-a'` has no key.
   */
  send(bodies: readonly string[], withinMs: number = 10_000): void {
    let inside = true
    const batch = bodies.map((body) => envelopeOf(body))
    this.sender.send(batch, this.clock.now() + withinMs, (from, to, outcome) => {
      if (inside) this.breaches.push('reported inside of send')
      for (let index = from; index < to; index++) {
        const body = bodies[index] as string
        if (this.outcomes.has(body)) this.breaches.push(`${body} was reported twice`)
        this.outcomes.set(body, outcome)
      }
    })
    inside = false
  }

  /** How each body ended so far. */
  get words(): Record<string, string> {
    return Object.fromEntries([...this.outcomes].map(([body, one]) => [body, wordOf(one)]))
  }
}

export function wordOf(outcome: SendOutcome): string {
  return outcome.status === 'confirmed' ? 'confirmed' : `${outcome.status} ${outcome.error.code}`
}

export function envelopeOf(body: string, to?: Destination): Envelope {
  const [, key = '', orderKey] = /^(.)[^*]*(?:\*(.*))?$/.exec(body) ?? []
  return {
    id: `id-${body}`,
    type: 't',
    producer: 'test',
    to: to ?? { kind: 'topic', topic: 't' },
    key: key === '-' ? null : Buffer.from(key),
    orderKey: orderKey ?? (key === '-' ? null : key),
    body: Buffer.from(body),
    headers: NO_HEADERS,
    contentType: 'text/plain',
    timeMs: 1_700_000_000_000,
    deliverAtMs: null,
  }
}
