import { memory, type MemoryBroker, type MemoryOptions } from '../../adapters/memory/index.ts'
import type { Delivery, DeliverySink } from '../../src/contract/broker.ts'
import type { Random } from '../../src/contract/clock.ts'
import type { CrashPoint } from '../../src/contract/crash-points.ts'
import type { EventType, HoldfastEvent } from '../../src/contract/events.ts'
import { headerOf, type Envelope, type Headers } from '../../src/contract/message.ts'
import { topic as declare, type Topic } from '../../src/contract/topic.ts'
import { UuidSource } from '../../src/contract/uuid.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import type {
  BatchOptions,
  Consumed,
  ConsumerOptions,
  SingleOptions,
} from '../../src/consume/options.ts'
import type { TopicSettings } from '../../src/contract/topology.ts'
import { type PublishOptions, seal } from '../../src/send/seal.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

/** What most tests send: which message it is, and its key. */
export interface Order {
  readonly n: number
  readonly customer: string
}

/** Ordered by customer. */
export const Orders: Topic<Order> = declare<Order>('orders', { key: ({ customer }) => customer })
/** The same without order. */
export const Loose: Topic<Order> = declare<Order>('loose')
export const group = 'billing'

/** Chance that never varies: jitter is half of the longest, ids count up. */
export class FixedRandom implements Random {
  #filled = 0
  value = 0.5

  next(): number {
    return this.value
  }

  fill(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) bytes[at] = (this.#filled++ * 2654435761) >>> 24
  }
}

type Own = 'broker' | 'group'
type Single<T extends Consumed, Tx> = Omit<SingleOptions<T, Tx>, Own>
type Batch<T extends Consumed, Tx> = Omit<BatchOptions<T, Tx>, Own>
type Given<T extends Consumed, Tx> = Single<T, Tx> | Batch<T, Tx>

/** A memory broker, consumers on it and everything they told, on a clock that the test moves. */
export class Stage {
  readonly clock: VirtualClock = new VirtualClock()
  readonly random: FixedRandom = new FixedRandom()
  readonly broker: MemoryBroker
  readonly events: HoldfastEvent[] = []
  readonly crashes: CrashPoint[] = []
  /** What the broker was told of each delivery: `ack orders.billing#0`. */
  readonly settles: string[] = []
  readonly topics: Readonly<Record<string, TopicSettings>>
  readonly #ids: UuidSource
  readonly #consumers: ReliableConsumer<Consumed, unknown>[] = []

  constructor(options: MemoryOptions = {}, topics: Stage['topics'] = {}) {
    this.broker = memory(options)
    const receive = this.broker.receive.bind(this.broker)
    this.broker.receive = (subscription, sink) => receive(subscription, this.#watching(sink))
    this.topics = topics
    this.#ids = new UuidSource(this.clock, this.random)
  }

  /** The sink, with a note of every settle. Deliveries stay what they are: `transact` wants its own. */
  #watching(sink: DeliverySink): DeliverySink {
    const watch = (delivery: Delivery): void => {
      for (const how of ['ack', 'release', 'retry'] as const) {
        const settle = delivery[how]?.bind(delivery)
        if (settle === undefined) continue
        const watched = (ms: number): unknown => {
          this.settles.push(`${how} ${delivery.at}`)
          return settle(ms)
        }
        Object.assign(delivery, { [how]: watched })
      }
    }
    return {
      deliver: (source, batch) => {
        for (const delivery of batch) watch(delivery)
        sink.deliver(source, batch)
      },
      revoking: (sources, deadline) => sink.revoking(sources, deadline),
      lost: (sources) => sink.lost(sources),
      ended: (error) => sink.ended(error),
    }
  }

  /** Opens the broker and declares both topics, so that messages can be sent before a consumer starts. */
  static async open(options: MemoryOptions = {}, topics: Stage['topics'] = {}): Promise<Stage> {
    const stage = new Stage(options, topics)
    await stage.#open()
    return stage
  }

  /** As another process would after this one ended. */
  async reopen(): Promise<void> {
    await this.#open()
  }

  async #open(): Promise<void> {
    const { clock, random } = this
    const emit = Object.assign(() => undefined, { wants: () => false })
    const { signal } = new AbortController()
    await this.broker.open({ clock, random, crash: { at: () => undefined }, emit, signal })
    const names = new Set([Orders.name, Loose.name, ...Object.keys(this.topics)])
    const declared = [...names].map((name) => ({
      name,
      groups: [group],
      partitions: null,
      ordering: name === Orders.name ? ('key' as const) : ('none' as const),
      retryLevelsMs: [1_000, 5_000, 30_000, 120_000, 300_000],
      ...this.topics[name],
    }))
    await this.broker.provision({ topics: declared }, 'create')
  }

  /** A consumer that has not started. */
  consumer<const T extends Consumed, Tx = never>(given: Single<T, Tx>): ReliableConsumer<T, Tx>
  consumer<const T extends Consumed, Tx = never>(given: Batch<T, Tx>): ReliableConsumer<T, Tx>
  consumer<const T extends Consumed, Tx = never>(given: Given<T, Tx>): ReliableConsumer<T, Tx> {
    const { broker, clock, random, topics } = this
    const consumer = new ReliableConsumer<T, Tx>({
      broker,
      group,
      clock,
      random,
      topics,
      crash: { at: (point) => void this.crashes.push(point) },
      on: (event) => void this.events.push(event),
      logging: 'silent',
      ...given,
    } as ConsumerOptions<T, Tx>)
    this.#consumers.push(consumer as unknown as ReliableConsumer<Consumed, unknown>)
    return consumer
  }

  started<const T extends Consumed, Tx = never>(
    given: Single<T, Tx>,
  ): Promise<ReliableConsumer<T, Tx>>
  started<const T extends Consumed, Tx = never>(
    given: Batch<T, Tx>,
  ): Promise<ReliableConsumer<T, Tx>>
  async started<const T extends Consumed, Tx = never>(
    given: Given<T, Tx>,
  ): Promise<ReliableConsumer<T, Tx>> {
    const consumer = this.consumer<T, Tx>(given as Single<T, Tx>)
    await this.clock.run(consumer.start())
    return consumer
  }

  /** Stores messages; resolves when the broker has confirmed them all. */
  async send<In>(to: Topic<In, unknown>, payload: In, options?: PublishOptions): Promise<Envelope> {
    const sealing = { source: 'stage', ids: this.#ids, clock: this.clock }
    const envelope = seal(to, payload, options, sealing)
    await this.sendRaw(envelope)
    return envelope
  }

  async sendRaw(envelope: Envelope): Promise<void> {
    const confirmed = new Promise<void>((resolve, reject) => {
      this.broker
        .sender('publish')
        .send([envelope], this.clock.now() + 5_000, (_f, _t, outcome) =>
          outcome.status === 'confirmed' ? resolve() : reject(outcome.error),
        )
    })
    await this.clock.run(confirmed)
  }

  /** Orders of one customer after the other: `'a1 b1 a2'`. */
  async orders(list: string, to: Topic<Order> = Orders): Promise<void> {
    for (const one of list.split(' ')) {
      await this.send(to, { customer: one[0] as string, n: Number(one.slice(1)) })
    }
  }

  dead(of: Topic<never, unknown> | { readonly name: string } = Orders): readonly Envelope[] {
    return this.broker.dead(of.name, group)
  }

  told<T extends EventType>(type: T): Extract<HoldfastEvent, { type: T }>[] {
    return this.events.filter((event) => event.type === type) as never
  }

  /** Messages the group has not finished. */
  depth(of: { readonly name: string } = Orders): Promise<number> {
    return this.broker.inspect.depth({ kind: 'group', topic: of.name, group, delayMs: 0 })
  }

  /** Waits, as long as it takes, until everything is finished; rejects after an hour. */
  settled(): Promise<void> {
    const settled = this.broker.settled({ deadlineMs: 3_600_000 })
    return this.clock.run(settled, 3_600_001)
  }

  /** Waits until the group has nothing left of that topic. */
  async settledOf(name: string): Promise<void> {
    const empty = async (): Promise<void> => {
      while ((await this.depth({ name })) > 0) {
        await new Promise<void>((resolve) => this.clock.after(10, resolve))
      }
    }
    await this.clock.run(empty())
  }

  async close(): Promise<void> {
    await this.clock.run(Promise.all(this.#consumers.map((one) => one.close({ timeoutMs: 100 }))))
    await this.clock.run(this.broker.close(this.clock.now() + 100))
  }
}

/** A promise and its ends. */
export class Gate<T = void> {
  readonly passed: Promise<T>
  open: (value: T) => void = () => undefined
  fail: (error: Error) => void = () => undefined

  constructor() {
    this.passed = new Promise<T>((resolve, reject) => {
      this.open = resolve
      this.fail = reject
    })
  }
}

/** `a1`, as the stage sends it. */
export function nameOf({ customer, n }: Order): string {
  return `${customer}${n}`
}

/** The text of a header, or undefined. */
export function text(headers: Headers, name: string): string | undefined {
  const value = headerOf(headers, name)
  return typeof value === 'string' ? value : undefined
}
