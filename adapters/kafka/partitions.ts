import type {
  BrokerContext,
  Deadline,
  DeliverySink,
  Subscription,
} from '../../src/contract/broker.ts'
import type { Cancel } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Commits } from './commits.ts'
import type { KafkaDelivery } from './delivery.ts'
import type {
  ConsumerCallbacks,
  DriverConsumer,
  FetchedRecord,
  KafkaDriver,
  LogRange,
  Part,
  TopicPartition,
  TransactResult,
} from './driver.ts'
import type { TellHealth } from './health.ts'
import { Openings } from './openings.ts'
import { nameOf } from './part-name.ts'
import { PartitionSource, type PartitionShare } from './partition-source.ts'
import type { Room } from './room.ts'

/** What a reader's partitions need. */
export interface PartitionsOptions {
  readonly driver: Pick<KafkaDriver, 'caps' | 'admin'>
  readonly context: BrokerContext
  readonly topic: string
  readonly groupId: string
  readonly subscription: Subscription
  readonly sink: DeliverySink
  readonly room: Room
  readonly requestTimeoutMs: number
  readonly nextEpoch: () => number
  /** Delay of a Kafka topic; `null`: it is the topic itself. */
  readonly levelOf: (kafkaTopic: string) => number | null
  /** There may be something to hand over, after `waitMs`. */
  readonly ready: (source: PartitionSource, waitMs: number) => void
  /** These are not ours any more. */
  readonly gone: (sources: readonly PartitionSource[]) => void
  readonly health: TellHealth
  /** The same of reading alone. */
  readonly readingHealth: TellHealth
}

/** What all partitions together have waiting here, and each of them at least and at most. */
const WAITING_BYTES = 32 * 1024 * 1024
const LEAST_WAITING_BYTES = 128 * 1024
const MOST_WAITING_BYTES = 1024 * 1024
/** How often what is held for long gets bytes of its own. */
const SWEEP_MS = 1_000
/** Kept back of the time in which partitions are to be given up, for the last commit. */
const COMMIT_PART = 0.2

/** What a consumer calls that is about partitions. */
export type PartitionCallbacks = Omit<ConsumerCallbacks, 'failed'>

/** The partitions one reader has, from their assignment until they are given up or lost. */
export class Partitions {
  readonly #options: PartitionsOptions
  readonly #commits: Commits
  readonly #openings: Openings
  readonly #share: PartitionShare
  readonly #sources = new Map<string, PartitionSource>()
  #consumer: DriverConsumer | null = null
  #epoch = 0
  #isStopped = false
  /** Settles of partitions that are lost which may not have arrived, and that nobody was told of by flush(). */
  #missed = 0
  #cancelSweep: Cancel = () => undefined

  constructor(options: PartitionsOptions) {
    const { context, groupId, subscription, driver, room, topic } = options
    const { clock, random, emit } = context
    this.#options = options
    this.#commits = new Commits({
      ...{ clock, random, emit, groupId },
      remembers: driver.caps.commitMetadata,
      requestTimeoutMs: options.requestTimeoutMs,
      member: () =>
        this.#consumer === null ? null : { consumer: this.#consumer, epoch: this.#epoch },
      health: (trouble) => {
        if (trouble === null) options.health('up', null)
        else options.health('weak', trouble.message)
      },
    })
    this.#openings = new Openings({
      admin: driver.admin,
      ...{ context, group: subscription.group, requestTimeoutMs: options.requestTimeoutMs },
      consumer: () => this.#consumer,
    })
    this.#share = {
      ...{ clock, room, ordering: subscription.ordering },
      to: Object.freeze({ kind: 'topic', topic }),
      touched: (source, soon) => this.#commits.touch(source, soon),
      ready: options.ready,
      drained: (source) => this.#weigh(source),
      stale: (source) => this.#stale(source),
    }
    this.#sweep()
  }

  get all(): Iterable<PartitionSource> {
    return this.#sources.values()
  }

  /** For one membership, as long as it is not over. */
  callbacks(isOver: () => boolean): PartitionCallbacks {
    const unlessOver = (act: () => void): void => {
      if (!isOver()) act()
    }
    return {
      assigned: (epoch, parts) => unlessOver(() => this.#assigned(epoch, parts)),
      revoking: () => this.#commits.flush(this.#sources.values()),
      yielding: (_, parts, deadline) => this.#yield(parts, deadline),
      lost: () => unlessOver(() => this.#lost()),
      records: (_, part, records, next, highWatermark) =>
        unlessOver(() => this.#received(part, records, next, highWatermark)),
      troubled: (_, trouble) => unlessOver(() => this.#troubled(trouble)),
      outOfRange: (_, part, asked, log) => unlessOver(() => this.#outOfRange(part, asked, log)),
    }
  }

  /** What was assigned may be read now. */
  attach(consumer: DriverConsumer): void {
    this.#consumer = consumer
    this.#openNew()
    this.#commits.kick()
  }

  /** The membership is over, and all that it had. */
  detach(): void {
    this.#consumer = null
    this.#troubled(null)
    this.loseAll()
  }

  /** Nothing more is fetched. */
  stop(): void {
    this.#isStopped = true
    for (const source of this.#sources.values()) this.#weigh(source)
  }

  /** Resolves when every settle made before is at the broker. Rejects at the deadline, or with what cannot be told. */
  async flush(deadline: Deadline): Promise<void> {
    const { clock } = this.#options.context
    const sources = [...this.#sources.values()]
    const work = (): Promise<void> => this.#commits.flush(sources)
    let cause: unknown
    await withDeadline(clock, deadline, work, 'committing').catch(
      (error: unknown) => (cause = error),
    )
    let count = this.#missed
    this.#missed = 0
    for (const source of sources) if (source.state !== 'lost') count += source.unsaved
    if (count > 0) throw missedError(count, cause)
  }

  /** Whether it is ours. */
  has(source: PartitionSource): boolean {
    return this.#sources.get(source.name) === source
  }

  /**
   * Writes, and settles the first deliveries of a source, in one transaction. Never rejects. After 'unknown'
   * the partition begins anew where the broker says.
   */
  transact(
    source: PartitionSource,
    done: readonly KafkaDelivery[],
    rounds: readonly (readonly Part[])[],
    deadline: Deadline,
  ): Promise<TransactResult> {
    return this.#commits.alone(source, async (remembers) => {
      const consumer = this.#consumer
      if (consumer?.transact === undefined || !this.has(source)) return 'aborted'
      if (this.#commits.isInDoubt({ consumer, epoch: this.#epoch })) return 'aborted'
      const pending = source.pendingAfter(done, remembers)
      if (pending === null) return 'aborted'
      const result = await consumer.transact(this.#epoch, rounds, [pending], deadline)
      if (result === 'unknown') this.#beginAnew(source)
      if (result !== 'committed' || source.state === 'lost') return result
      for (const delivery of done) delivery.ack()
      source.saved(pending)
      return result
    })
  }

  /** Commits that handlers got no further than they did. Never rejects. */
  async conclude(deadline: Deadline): Promise<void> {
    const work = (): Promise<void> => this.#commits.conclude(this.#sources.values())
    const { clock } = this.#options.context
    await withDeadline(clock, deadline, work, 'the last commit').catch(() => undefined)
  }

  /** Everything is somebody else's from now on; nobody is told. */
  close(): void {
    this.#cancelSweep()
    this.#commits.close()
    for (const source of this.#sources.values()) source.lose()
    this.#sources.clear()
    this.#consumer = null
  }

  /** Nothing is ours any more. */
  loseAll(): void {
    this.#lose([...this.#sources.values()])
  }

  #lost(): void {
    const { health, groupId } = this.#options
    this.loseAll()
    health('away', `group "${groupId}" has given this consumer up, or cannot be reached`)
  }

  #troubled(trouble: string | null): void {
    this.#options.readingHealth(trouble === null ? 'up' : 'weak', trouble)
  }

  #assigned(epoch: number, parts: readonly TopicPartition[]): void {
    this.#epoch = epoch
    if (this.#consumer !== null) this.#options.health('up', null)
    const named = new Set(parts.map(nameOf))
    this.#lose([...this.#sources.values()].filter(({ name }) => !named.has(name)))
    for (const part of parts) {
      const name = nameOf(part)
      const kept = this.#sources.get(name)
      if (kept !== undefined) {
        this.#keep(kept)
        continue
      }
      const { nextEpoch, levelOf } = this.#options
      const level = levelOf(part.topic)
      this.#sources.set(name, new PartitionSource(this.#share, part, nextEpoch(), level))
    }
    this.#openNew()
    this.#commits.kick()
  }

  /** A client may begin anew at the committed offset, and forget what was paused. */
  #keep(source: PartitionSource): void {
    if (source.state === 'opening') return
    this.#consumer?.seek(source.part, source.position)
    if (source.isFull || source.state === 'yielding') this.#consumer?.pause([source.part])
  }

  /** Asks where those begin that nobody asked for yet. */
  #openNew(): void {
    const consumer = this.#consumer
    if (consumer === null) return
    const opening = [...this.#sources.values()].filter((source) => source.state === 'opening')
    if (opening.length > 0) void this.#openings.open(consumer, opening)
  }

  #received(
    part: TopicPartition,
    records: readonly FetchedRecord[],
    next: bigint,
    highWatermark: bigint,
  ): void {
    const source = this.#sources.get(nameOf(part))
    if (source === undefined || source.state !== 'open') return
    source.received(records, next, highWatermark)
    this.#weigh(source)
    this.#options.ready(source, 0)
  }

  /** The log begins behind, or ends before, what the group has committed. */
  #outOfRange(part: TopicPartition, asked: bigint, { begin, end }: LogRange): void {
    const source = this.#sources.get(nameOf(part))
    if (source === undefined) return
    const { context, subscription } = this.#options
    const isLoss = asked < begin
    const text = isLoss
      ? `${begin - asked} offsets of ${source.name}, from ${asked} to ${begin}, were deleted before group "${subscription.group}" had read them: retention is shorter than its backlog`
      : `${source.name} ends at ${end}, and group "${subscription.group}" had read up to ${asked}: the topic was made anew, or lost what it had. It is read from ${begin} on`
    context.emit({ type: 'warning', code: 'kafka.data-loss', message: text })
    if (isLoss) {
      source.skipTo(begin)
      return this.#consumer?.seek(part, begin)
    }
    // What is finished there says nothing about what is there now.
    this.#replace(source).begin(begin, null)
    if (source.isFull) this.#consumer?.resume([part])
    this.#consumer?.seek(part, begin)
  }

  /** What is here of it may be done or not: the broker knows. */
  #beginAnew(source: PartitionSource): void {
    if (!this.has(source) || source.state !== 'open') return
    const { part, isFull } = source
    this.#replace(source)
    if (isFull) this.#consumer?.resume([part])
    this.#openNew()
  }

  #replace(source: PartitionSource): PartitionSource {
    this.#lose([source])
    const { nextEpoch } = this.#options
    const anew = new PartitionSource(this.#share, source.part, nextEpoch(), source.levelMs)
    this.#sources.set(anew.name, anew)
    return anew
  }

  /** Lets handlers finish, commits, and forgets. Never rejects. */
  async #yield(parts: readonly TopicPartition[], deadline: Deadline): Promise<void> {
    const { context, sink } = this.#options
    const { clock } = context
    const sources = parts.flatMap((part) => this.#sources.get(nameOf(part)) ?? [])
    for (const source of sources) if (source.state !== 'lost') source.state = 'yielding'
    this.#consumer?.pause(parts)
    const finishBy = deadline - (deadline - clock.now()) * COMMIT_PART
    const finish = (): Promise<void> => sink.revoking(sources, finishBy)
    await withDeadline(clock, finishBy, finish, 'finishing').catch(() => undefined)
    const commit = (): Promise<void> => this.#commits.conclude(sources)
    await withDeadline(clock, deadline, commit, 'the last commit').catch(() => undefined)
    this.#lose(sources.filter((source) => this.#sources.get(source.name) === source))
  }

  /** The queue of a source has changed: what is read may have to wait, or to go on. */
  #weigh(source: PartitionSource): void {
    const { bytes } = source.queue
    const most = Math.max(LEAST_WAITING_BYTES, WAITING_BYTES / Math.max(1, this.#sources.size))
    const mayFill = Math.min(MOST_WAITING_BYTES, most)
    const isFull = this.#isStopped || bytes >= (source.isFull ? mayFill / 2 : mayFill)
    if (isFull === source.isFull || source.state !== 'open') return
    source.isFull = isFull
    if (isFull) this.#consumer?.pause([source.part])
    else this.#consumer?.resume([source.part])
  }

  #lose(sources: readonly PartitionSource[]): void {
    if (sources.length === 0) return
    const { context, sink } = this.#options
    const told = sources.filter(({ held, state }) => held > 0 || state !== 'yielding')
    let count = 0
    for (const source of sources) {
      count += source.lose()
      this.#sources.delete(source.name)
      this.#commits.forget(source)
    }
    this.#options.gone(sources)
    this.#missed += count
    if (count > 0) context.emit({ type: 'settle.failed', count, error: missedError(count) })
    if (told.length > 0) sink.lost(told)
  }

  #stale({ name }: PartitionSource): void {
    const { emit } = this.#options.context
    if (emit.wants('settle.stale')) emit({ type: 'settle.stale', source: name, count: 1 })
  }

  #sweep(): void {
    this.#cancelSweep = this.#options.context.clock.after(SWEEP_MS, () => {
      for (const source of this.#sources.values()) source.detachOld()
      this.#sweep()
    })
  }
}

function missedError(count: number, cause?: unknown): HoldfastError {
  const text = `up to ${count} settles may not have reached Kafka: what they were for comes again`
  return new HoldfastError('settle', text, cause === undefined ? {} : { cause })
}
