import type {
  BrokerContext,
  Deadline,
  Delivery,
  DeliverySink,
  Receiver,
  Source,
  Subscription,
} from '../../src/contract/broker.ts'
import { OptionError, type HoldfastError } from '../../src/contract/errors.ts'
import { DelayQueue } from '../../src/policy/delay-queue.ts'
import { KafkaDelivery } from './delivery.ts'
import type { KafkaDriver, TransactResult } from './driver.ts'
import type { Health, TellHealth } from './health.ts'
import type { Resolved } from './options.ts'
import { PartitionSource } from './partition-source.ts'
import { roundsOf, type ProducedOptions } from './produced.ts'
import { Room } from './room.ts'
import { TopicReader } from './topic-reader.ts'
import type { TopicTable } from './topics.ts'

/** What a receiver needs. */
export interface ReceiverOptions {
  readonly driver: Pick<KafkaDriver, 'consume' | 'caps' | 'admin'>
  readonly topics: Pick<TopicTable, 'names' | 'retryTopics' | 'look' | 'stale'>
  readonly options: Pick<Resolved, 'sessionTimeoutMs' | 'rebalanceTimeoutMs' | 'requestTimeoutMs'>
  readonly context: BrokerContext
  readonly subscription: Subscription
  readonly sink: DeliverySink
  readonly health: TellHealth
  /** How what is published in transactions finds its way. */
  readonly produces?: Omit<ProducedOptions, 'random'>
}

function ours(delivery: Delivery): KafkaDelivery {
  if (delivery instanceof KafkaDelivery) return delivery
  throw new OptionError('transact.done', delivery, 'deliveries of this receiver')
}

/** open: delivers. stopped: settles only. closed: neither. */
type State = 'open' | 'stopped' | 'closed'

/** Starting a consumer does not wait longer for a group whose dead members are not missed yet. */
const OPENING_MS = 10_000
/** Deliveries handed over at a time, of one partition and in one turn of the event loop. */
const AT_A_TIME = 256
const IN_A_TURN = 4_096

/** Reads topics for one group: a consumer each, since members of one group have to want the same topics. */
export class KafkaReceiver implements Receiver {
  readonly #options: ReceiverOptions
  readonly #room: Room
  readonly #readers: readonly TopicReader[]
  /** Partitions that may have something to hand over, longest waiting first. */
  #ready = new Set<PartitionSource>()
  /** Those whose first record is not due yet; and when it is. */
  readonly #due: DelayQueue<PartitionSource>
  readonly #waiting = new Map<PartitionSource, number>()
  readonly #healths = new Map<string, readonly [Health, string | null]>()
  /** Only where the driver's transactions are fenced. */
  readonly transact?: NonNullable<Receiver['transact']>
  #state: State = 'open'
  #isPaused = false
  #isFeeding = false
  #epoch = 0
  #opening: ((error?: HoldfastError) => void) | null = null
  #closing: Promise<void> | null = null

  constructor(options: ReceiverOptions) {
    const { context, subscription } = options
    const { clock } = context
    this.#options = options
    this.#room = new Room(subscription.maxHeld, () => clock.defer(() => this.#feed()))
    this.#due = new DelayQueue(clock, (source) => {
      this.#waiting.delete(source)
      this.#makeReady(source)
    })
    this.#readers = subscription.topics.map((topic) => this.#readerOf(topic))
    const { driver, produces } = options
    if (driver.caps.txn === 'fenced' && produces !== undefined) {
      const ways = { ...produces, random: context.random }
      this.transact = async (done, produced, deadline) =>
        this.#transact(done, deadline, () => roundsOf(produced, deadline, ways))
    }
  }

  /**
   * Begins to consume, and resolves when the group is joined for every topic, or has let nobody in for a
   * while: then it goes on trying. Rejects when that does not help (no such topic: code `topology`; not
   * allowed: `rejected`); nothing is left open then.
   */
  opened(): Promise<void> {
    const { context, options } = this.#options
    for (const reader of this.#readers) reader.start()
    const withinMs = Math.min(options.requestTimeoutMs, OPENING_MS)
    return new Promise((resolve, reject) => {
      const cancel = context.clock.after(withinMs, () => this.#opening?.())
      this.#opening = (error) => {
        this.#opening = null
        cancel()
        if (error === undefined) resolve()
        else reject(error)
      }
      void Promise.all(this.#readers.map(({ joined }) => joined)).then(() => this.#opening?.())
    })
  }

  /** `resume()` ends what `pause()` began, `resume(sources)` what `pause(sources)` began. */
  pause(sources?: readonly Source[]): void {
    if (sources === undefined) this.#isPaused = true
    else this.#pauseSources(sources, true)
  }

  resume(sources?: readonly Source[]): void {
    if (sources !== undefined) return this.#pauseSources(sources, false)
    this.#isPaused = false
    this.#feedSoon()
  }

  async flush(deadline: Deadline): Promise<void> {
    const flushes = this.#readers.map((reader) => reader.partitions.flush(deadline))
    const failed = (await Promise.allSettled(flushes)).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  }

  async stop(_deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopped'
    this.#ready.clear()
    for (const reader of this.#readers) reader.partitions.stop()
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #close(deadline: Deadline): Promise<void> {
    if (this.#state === 'closed') return
    await this.stop(deadline)
    const { clock } = this.#options.context
    try {
      await this.flush(clock.now() + (deadline - clock.now()) / 2)
    } finally {
      this.#state = 'closed'
      this.#due.clear()
      await Promise.all(this.#readers.map((reader) => reader.close(deadline)))
      this.#opening?.()
      this.#options.sink.ended()
    }
  }

  async #transact(
    done: readonly Delivery[],
    deadline: Deadline,
    roundsToWrite: () => ReturnType<typeof roundsOf>,
  ): Promise<TransactResult> {
    const { context } = this.#options
    const deliveries = done.map(ours)
    const source = deliveries[0]?.source
    const reader = this.#readers.find(({ partitions }) => {
      return source instanceof PartitionSource && partitions.has(source)
    })
    if (reader === undefined) return 'aborted'
    try {
      const rounds = await roundsToWrite()
      return await reader.partitions.transact(
        source as PartitionSource,
        deliveries,
        rounds,
        deadline,
      )
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      const message = `a transaction was not begun: ${why}`
      context.emit({ type: 'warning', code: 'kafka.transaction-aborted', message })
      return 'aborted'
    }
  }

  #readerOf(topic: string): TopicReader {
    const { health } = this.#options
    return new TopicReader({
      ...this.#options,
      topic,
      room: this.#room,
      nextEpoch: () => ++this.#epoch,
      ready: (source, waitMs) => {
        if (waitMs === 0) this.#makeReady(source)
        else this.#makeDue(source, waitMs)
      },
      gone: (sources) => this.#forget(sources),
      health: (state, reason) => {
        this.#healths.set(topic, [state, reason])
        if (this.#state !== 'closed') health(...this.#worst())
      },
      ended: (error) => this.#ended(error),
    })
  }

  #pauseSources(sources: readonly Source[], isPaused: boolean): void {
    for (const source of sources) {
      if (!(source instanceof PartitionSource)) continue
      source.isPaused = isPaused
      if (!isPaused) this.#makeReady(source)
    }
  }

  #makeReady(source: PartitionSource): void {
    if (this.#state !== 'open') return
    this.#ready.add(source)
    this.#feedSoon()
  }

  #makeDue(source: PartitionSource, waitMs: number): void {
    if (this.#state !== 'open' || this.#waiting.has(source)) return
    this.#waiting.set(source, this.#options.context.clock.now() + waitMs)
    this.#due.add(waitMs, source)
  }

  /** A retry may be due in days: what was lost until then is not kept for it. */
  #forget(sources: readonly PartitionSource[]): void {
    for (const source of sources) this.#ready.delete(source)
    if (sources.filter((source) => this.#waiting.delete(source)).length === 0) return
    this.#due.clear()
    const now = this.#options.context.clock.now()
    for (const [source, dueAt] of this.#waiting) this.#due.add(Math.max(0, dueAt - now), source)
  }

  /** After what is happening now, so that all of an answer is there. */
  #feedSoon(): void {
    if (this.#isFeeding || this.#isPaused) return
    this.#isFeeding = true
    queueMicrotask(() => this.#feed())
  }

  /** Hands over what there is room for, of each partition some in its turn. */
  #feed(): void {
    this.#isFeeding = false
    if (this.#state !== 'open' || this.#isPaused) return
    const { sink, context } = this.#options
    const crowded: PartitionSource[] = []
    let left = IN_A_TURN
    // What is added while it runs is reached by the same loop.
    for (const source of this.#ready) {
      if (left <= 0) break
      this.#ready.delete(source)
      const batch = source.next(AT_A_TIME)
      if (batch.length > 0) sink.deliver(source, batch)
      left -= batch.length
      if (source.wants === 'more') this.#ready.add(source)
      else if (source.wants === 'room') crowded.push(source)
    }
    const hasMore = this.#ready.size > 0
    for (const source of crowded) this.#ready.add(source)
    if (!hasMore) return
    this.#isFeeding = true
    context.clock.defer(() => this.#feed())
  }

  #worst(): readonly [Health, string | null] {
    const all = [...this.#healths.values()]
    const bad = all.find(([health]) => health !== 'up')
    if (bad === undefined) return ['up', null]
    return [all.every(([health]) => health === 'away') ? 'away' : 'weak', bad[1]]
  }

  /** One topic cannot be read any more, whatever is tried. */
  #ended(error: HoldfastError): void {
    const { context, options, sink } = this.#options
    const opening = this.#opening
    this.#state = 'closed'
    this.#due.clear()
    const sources = this.#readers.flatMap((reader) => [...reader.partitions.all])
    const deadline = context.clock.now() + options.requestTimeoutMs
    for (const reader of this.#readers) void reader.close(deadline)
    if (opening !== null) return opening(error)
    if (sources.length > 0) sink.lost(sources)
    sink.ended(error)
  }
}
