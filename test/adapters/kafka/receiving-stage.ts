import type { TopicPartition } from '../../../adapters/kafka/driver.ts'
import type { Health } from '../../../adapters/kafka/health.ts'
import { KafkaReceiver, type ReceiverOptions } from '../../../adapters/kafka/receiver.ts'
import { TopicNames } from '../../../adapters/kafka/names-of.ts'
import type { RetryTopic, TopicLayout } from '../../../adapters/kafka/topics.ts'
import type { Subscription } from '../../../src/contract/broker.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import { Listener, type OnReceived, type Received } from '../../conformance/broker/listener.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { FakeDriver } from './fake-driver.ts'

/** What a test may ask of a receiver. */
export interface ReceiveSetup {
  readonly topics?: readonly string[]
  readonly ordering?: Subscription['ordering']
  readonly maxHeld?: Partial<Subscription['maxHeld']>
  readonly onReceived?: (received: Received, listener: Listener) => void
  readonly parts?: readonly TopicPartition[]
}

/** A partition of the usual topic. */
export const part = (partition: number, topic = 'orders'): TopicPartition => ({ topic, partition })

/** Names of the retry topic of the usual group. */
export const retryOf = (levelMs: number): string => `orders.a.retry.${levelMs}`

/** A receiver on fake brokers, in a time that stands still until a test moves it. */
export class ReceivingStage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly driver: FakeDriver = new FakeDriver(this.clock)
  readonly events: HoldfastEvent[] = []
  readonly healths: [Health, string | null][] = []
  levels: RetryTopic[] = []
  /** How what is published in transactions finds its way. */
  produces: ReceiverOptions['produces']
  /** Kafka topics that are there. */
  existing: (topic: string) => boolean = () => true
  listener!: Listener
  receiver!: KafkaReceiver

  constructor(caps: ConstructorParameters<typeof FakeDriver>[1] = {}) {
    this.driver = new FakeDriver(this.clock, caps)
  }

  /** A receiver that has joined; partition 0 is its own unless said otherwise. */
  async receive(setup: ReceiveSetup = {}): Promise<this> {
    await this.clock.run(this.begin(setup))
    await this.clock.settle()
    return this
  }

  /** The same without waiting. */
  begin({
    topics = ['orders'],
    ordering = 'none',
    maxHeld = {},
    onReceived,
    parts = [part(0)],
  }: ReceiveSetup = {}): Promise<void> {
    const emit: Emit = Object.assign((event: HoldfastEvent) => void this.events.push(event), {
      wants: () => true,
    })
    const each: OnReceived = (received) => onReceived?.(received, this.listener)
    this.listener = new Listener(this.clock, each)
    this.driver.first = parts
    this.receiver = new KafkaReceiver({
      driver: this.driver,
      topics: {
        names: (topic) => new TopicNames({ prefix: '', map: new Map() }, topic),
        retryTopics: async () => this.levels,
        look: async (topic) => (this.existing(topic) ? ({ topic } as TopicLayout) : null),
        stale: () => undefined,
      },
      options: { sessionTimeoutMs: 6_000, rebalanceTimeoutMs: 6_000, requestTimeoutMs: 5_000 },
      context: {
        clock: this.clock,
        random: seededRandom(1),
        crash: noCrashes,
        emit,
        signal: new AbortController().signal,
      },
      subscription: {
        topics,
        group: 'a',
        ordering,
        from: 'now',
        maxHeld: { messages: 10_000, bytes: 100_000_000, ...maxHeld },
      },
      sink: this.listener,
      health: (health, reason) => void this.healths.push([health, reason]),
      ...(this.produces === undefined ? {} : { produces: this.produces }),
    })
    this.listener.attach(this.receiver)
    return this.receiver.opened()
  }

  get bodies(): readonly string[] {
    return this.listener.bodies
  }

  /** What the brokers have for the group. */
  committed(name = 'orders/0'): bigint | undefined {
    return this.driver.offsets.get(name)?.offset
  }

  /** Settles what came with that body. */
  ack(...bodies: string[]): void {
    for (const body of bodies) this.listener.ack(this.of(body))
  }

  of(body: string): Received {
    const found = this.listener.received.findLast(
      ({ envelope }) => envelope.body !== null && Buffer.from(envelope.body).toString() === body,
    )
    if (found === undefined) throw new Error(`${body} did not come, but ${this.bodies.join(', ')}`)
    return found
  }

  warned(code: string): boolean {
    return this.events.some((event) => event.type === 'warning' && event.code === code)
  }

  async close(): Promise<void> {
    await this.clock.run(this.receiver.close(this.clock.now() + 5_000).catch(() => undefined))
  }
}

/** Texts '0', '1', '2', … */
export function numbers(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, n) => String(from + n))
}
