import type {
  BrokerContext,
  Deadline,
  DeliverySink,
  Subscription,
} from '../../src/contract/broker.ts'
import { ClosedError, HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Wake } from '../../src/policy/wake.ts'
import { Aspects } from './aspects.ts'
import type { DriverConsumer, GroupSpec, KafkaDriver } from './driver.ts'
import type { TellHealth } from './health.ts'
import type { TopicNames } from './names-of.ts'
import type { Resolved } from './options.ts'
import type { PartitionSource } from './partition-source.ts'
import { Partitions } from './partitions.ts'
import type { Room } from './room.ts'
import type { TopicTable } from './topics.ts'

/** What reading one topic for one group needs. */
export interface TopicReaderOptions {
  readonly driver: Pick<KafkaDriver, 'consume' | 'caps' | 'admin'>
  readonly topics: Pick<TopicTable, 'names' | 'retryTopics' | 'look' | 'stale'>
  readonly options: Pick<Resolved, 'sessionTimeoutMs' | 'rebalanceTimeoutMs' | 'requestTimeoutMs'>
  readonly context: BrokerContext
  readonly topic: string
  readonly subscription: Subscription
  readonly sink: DeliverySink
  readonly room: Room
  readonly nextEpoch: () => number
  /** There may be something to hand over, after `waitMs`. */
  readonly ready: (source: PartitionSource, waitMs: number) => void
  /** These are not ours any more. */
  readonly gone: (sources: readonly PartitionSource[]) => void
  readonly health: TellHealth
  /** It cannot go on, and trying again does not help. */
  readonly ended: (error: HoldfastError) => void
}

/** A rebalance is noticed that late at most. */
const HEARTBEAT_MS = 1_000
/** Longest wait of a fetch that finds nothing. */
const WAIT_MS = 500
const MOST_BYTES = 5 * 1024 * 1024
const MOST_BYTES_PER_PARTITION = 1024 * 1024
/** How often new retry topics are looked for. */
const LOOK_MS = 60_000
/** A membership that lasted for that long was a good one: what comes next starts with short waits again. */
const GOOD_MS = 10_000

const backoff = exponential({ initialMs: 100, maxMs: 10_000 })

/** These tell something that waiting does not change. */
const fatal: ReadonlySet<string> = new Set([
  'destination-gone',
  'topology',
  'rejected',
  'capability',
  'missing-package',
  'codec',
])

/** One membership, from its join until it fails: what an older one still says is not heard. */
class Life {
  readonly failure: Promise<HoldfastError>
  isOver = false
  #fail: (error: HoldfastError) => void = () => undefined

  constructor() {
    this.failure = new Promise((resolve) => (this.#fail = resolve))
  }

  failed(error: HoldfastError): void {
    this.isOver = true
    this.#fail(error)
  }
}

/**
 * Reads one topic for one group, with the retry topics that exist: keeps a consumer in the group, whatever
 * happens to it.
 */
export class TopicReader {
  /** Resolves with the first membership. */
  readonly joined: Promise<void>
  readonly partitions: Partitions
  readonly #options: TopicReaderOptions
  readonly #names: TopicNames
  readonly #health: TellHealth
  readonly #wake: Wake
  /** Ends waiting for a group that lets nobody in. */
  readonly #abandon = new AbortController()
  #levels = new Map<string, number>()
  #consumer: DriverConsumer | null = null
  #isClosed = false
  #hasJoined = false
  #lookAt = 0
  #running: Promise<void> = Promise.resolve()
  #tellJoined: () => void = () => undefined

  constructor(options: TopicReaderOptions) {
    const { context, topics, topic, subscription } = options
    this.#options = options
    this.#names = topics.names(topic)
    this.#wake = new Wake(context.clock)
    this.joined = new Promise((resolve) => (this.#tellJoined = resolve))
    const aspects = new Aspects(options.health)
    this.#health = aspects.of('group')
    this.partitions = new Partitions({
      ...options,
      health: this.#health,
      readingHealth: aspects.of('reading'),
      groupId: this.#names.groupId(subscription.group),
      requestTimeoutMs: options.options.requestTimeoutMs,
      levelOf: (kafkaTopic) => this.#levels.get(kafkaTopic) ?? null,
    })
  }

  /** Begins, once; goes on until `close` or until it cannot. */
  start(): void {
    this.#running = this.#run()
  }

  /** Commits how far handlers got, leaves the group and gives everything back. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    if (this.#isClosed) return
    const { clock } = this.#options.context
    this.partitions.stop()
    await this.partitions.conclude(clock.now() + (deadline - clock.now()) / 2)
    this.#end()
    this.#wake.ring()
    await this.#consumer?.close(deadline)
    const ending = withDeadline(clock, deadline, () => this.#running, 'leaving the group')
    await ending.catch(() => undefined)
  }

  #end(): void {
    this.#isClosed = true
    this.#abandon.abort(new ClosedError('the consumer'))
    this.partitions.close()
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#options.context
    for (let failures = 0; !this.#isClosed;) {
      const startedAt = clock.now()
      const trouble = await this.#once()
      if (this.#isClosed) return
      this.partitions.detach()
      this.#health('away', trouble.message)
      if (fatal.has(trouble.code) && (await this.#isFatal(trouble))) return
      failures = clock.now() - startedAt >= GOOD_MS ? 1 : failures + 1
      await this.#wake.sleep(backoff.delayFor(failures, random))
    }
  }

  /** One membership, and how it ended. Never rejects. */
  async #once(): Promise<HoldfastError> {
    const life = new Life()
    try {
      await this.#join(life)
      return await this.#live(life)
    } catch (error) {
      life.isOver = true
      return asHoldfast(error)
    }
  }

  async #join(life: Life): Promise<void> {
    const { driver, context, options } = this.#options
    await this.#checkTopic()
    this.#levels = await this.#lookForLevels()
    const { clock } = context
    this.#lookAt = clock.now() + LOOK_MS
    const withinMs = options.rebalanceTimeoutMs + 2 * options.requestTimeoutMs
    const consumer = await driver.consume(
      this.#spec(),
      {
        ...this.partitions.callbacks(() => life.isOver || this.#isClosed),
        failed: (error) => life.failed(error),
      },
      clock.now() + withinMs,
      this.#abandon.signal,
    )
    if (this.#isClosed) return this.#dispose(consumer)
    this.#consumer = consumer
    this.#hasJoined = true
    this.#health('up', null)
    this.partitions.attach(consumer)
    this.#tellJoined()
  }

  /** Until the membership fails. */
  async #live({ failure }: Life): Promise<HoldfastError> {
    const { clock } = this.#options.context
    let trouble: HoldfastError | null = null
    void failure.then((error) => {
      trouble = error
      this.#wake.ring()
    })
    while (trouble === null && !this.#isClosed) {
      await this.#wake.sleep(Math.max(0, this.#lookAt - clock.now()))
      if (trouble === null && clock.now() >= this.#lookAt) trouble = await this.#lookAgain()
    }
    const consumer = this.#consumer
    this.#consumer = null
    if (consumer !== null && !this.#isClosed) this.#dispose(consumer)
    return trouble ?? new ClosedError('the consumer')
  }

  /** Retry topics come with new levels, and go with old ones. */
  async #lookAgain(): Promise<HoldfastError | null> {
    this.#lookAt = this.#options.context.clock.now() + LOOK_MS
    const levels = await this.#lookForLevels().catch(() => null)
    if (levels === null || sameKeys(levels, this.#levels)) return null
    this.#levels = levels
    if (this.#consumer?.subscribe === undefined) {
      return new HoldfastError('unavailable', 'the group is joined again for other retry topics')
    }
    this.#consumer.subscribe(this.#spec().topics)
    return null
  }

  async #lookForLevels(): Promise<Map<string, number>> {
    const { topics, topic, subscription } = this.#options
    const found = await topics.retryTopics(topic, subscription.group)
    return new Map(found.map((one) => [one.topic, one.levelMs]))
  }

  async #checkTopic(): Promise<void> {
    const { topics } = this.#options
    const { topic } = this.#names
    topics.stale(topic)
    if ((await topics.look(topic)) !== null) return
    const text = `Kafka has no topic "${topic}": declare it with its groups, or let topology: 'create' make it`
    throw new HoldfastError('topology', text, { topic: this.#options.topic })
  }

  /** What is gone is looked for once more: a retry topic that went is no reason to end. */
  async #isFatal(trouble: HoldfastError): Promise<boolean> {
    let reason = trouble
    if (trouble.code === 'destination-gone' || trouble.code === 'topology') {
      const missing = await this.#missing()
      if (missing === null) return false
      reason = missing
    }
    this.#end()
    this.#options.ended(reason)
    return true
  }

  async #missing(): Promise<HoldfastError | null> {
    const { topic } = this.#options
    try {
      await this.#checkTopic()
      return null
    } catch (error) {
      if (!isHoldfastError(error) || error.code !== 'topology') return null
      return this.#hasJoined
        ? new HoldfastError('destination-gone', error.message, { topic })
        : error
    }
  }

  #spec(): GroupSpec {
    const { options, subscription } = this.#options
    const { sessionTimeoutMs, rebalanceTimeoutMs } = options
    return {
      groupId: this.#names.groupId(subscription.group),
      topics: [this.#names.topic, ...this.#levels.keys()],
      sessionTimeoutMs,
      rebalanceTimeoutMs,
      heartbeatIntervalMs: Math.min(HEARTBEAT_MS, Math.floor(sessionTimeoutMs / 6)),
      maxWaitMs: WAIT_MS,
      maxBytes: MOST_BYTES,
      maxBytesPerPartition: MOST_BYTES_PER_PARTITION,
      instanceId: null,
    }
  }

  #dispose(consumer: DriverConsumer): void {
    const { context, options } = this.#options
    void consumer.close(context.clock.now() + options.requestTimeoutMs)
  }
}

function asHoldfast(error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error
  const text = error instanceof Error ? error.message : String(error)
  return new HoldfastError('connection-lost', text, { cause: error })
}

function sameKeys(one: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>): boolean {
  return one.size === other.size && [...one.keys()].every((key) => other.has(key))
}
