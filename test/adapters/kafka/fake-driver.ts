import type {
  CommitOffset,
  CommittedOffset,
  ConsumerCallbacks,
  DriverCaps,
  DriverConsumer,
  FetchedRecord,
  GroupSpec,
  KafkaDriver,
  Part,
  TopicPartition,
  TransactResult,
} from '../../../adapters/kafka/driver.ts'
import { nameOf } from '../../../adapters/kafka/part-name.ts'
import type { Clock } from '../../../src/contract/clock.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'

/** One partition of the log that the fake brokers keep. */
class Log {
  readonly records: FetchedRecord[] = []
  begin = 0n
  end = 0n
}

interface Appended {
  readonly key?: string | null
  readonly headers?: readonly (readonly [string, string])[]
  readonly timestampMs?: number
}

/** Brokers that keep logs and offsets, and whose clients do what a test says. */
export class FakeDriver implements Pick<KafkaDriver, 'consume' | 'caps' | 'admin'> {
  readonly caps: DriverCaps
  readonly consumers: FakeConsumer[] = []
  readonly logs: Map<string, Log> = new Map()
  readonly offsets: Map<string, { offset: bigint; metadata: string | null }> = new Map()
  readonly commits: (readonly CommitOffset[])[] = []
  /** What becomes of the next joins; `undefined`: they work. */
  joins: ((spec: GroupSpec) => Error | undefined)[] = []
  /** What becomes of the next commits; `undefined`: they work. */
  commitTroubles: (Error | undefined)[] = []
  /** What becomes of the next questions for offsets. */
  committedTroubles: (Error | undefined)[] = []
  /** How the next transactions end; by default they are committed. */
  transactions: ('aborted' | 'unknown' | 'unknown, and committed')[] = []
  /** What was written in transactions that were committed. */
  readonly written: Part[] = []
  /** Commits wait until it is resolved. */
  commitGate: Promise<void> = Promise.resolve()
  /** Transactions wait until it is resolved. */
  transactGate: Promise<void> = Promise.resolve()
  /** A client that begins anew at the committed offset with every assignment, and forgets what was paused. */
  isForgetful = false
  batchSize = 100
  readonly admin: KafkaDriver['admin']
  readonly clock: Clock
  /** Assigned with the join. */
  first: readonly TopicPartition[] = []

  constructor(clock: Clock, caps: Partial<DriverCaps> = {}) {
    this.clock = clock
    this.caps = {
      idempotent: true,
      txn: 'none',
      commitMetadata: true,
      partitionPause: true,
      staticMembership: false,
      ...caps,
    }
    this.admin = {
      offsets: async (topic: string, at: 'earliest' | 'latest') =>
        [...this.logs]
          .filter(([name]) => name.startsWith(`${topic}/`))
          .map(([name, log]) => ({
            partition: Number(name.slice(topic.length + 1)),
            offset: at === 'earliest' ? log.begin : log.end,
          })),
    } as unknown as KafkaDriver['admin']
  }

  /** The consumer that joined last. */
  get consumer(): FakeConsumer {
    const last = this.consumers.at(-1)
    if (last === undefined) throw new Error('nobody has joined')
    return last
  }

  log(name: string): Log {
    let log = this.logs.get(name)
    if (log === undefined) this.logs.set(name, (log = new Log()))
    return log
  }

  /** Appends records, and lets whoever reads the partition have them. */
  append(name: string, values: readonly (string | null)[], given: Appended = {}): void {
    const log = this.log(name)
    for (const value of values) {
      log.records.push({
        offset: log.end++,
        key: given.key === undefined || given.key === null ? null : Buffer.from(given.key),
        value: value === null ? null : Buffer.from(value),
        headers: (given.headers ?? []).map(([header, text]) => [header, Buffer.from(text)]),
        timestampMs: given.timestampMs ?? this.clock.wallMs(),
      })
    }
    for (const consumer of this.consumers) consumer.read()
  }

  /** Offsets that no record has. */
  leaveHole(name: string, count: bigint): void {
    this.log(name).end += count
    for (const consumer of this.consumers) consumer.read()
  }

  /** Everything before the offset is deleted. */
  deleteBefore(name: string, offset: bigint): void {
    const log = this.log(name)
    log.begin = offset
    log.records.splice(0, log.records.length, ...log.records.filter((one) => one.offset >= offset))
  }

  consume(
    spec: GroupSpec,
    callbacks: ConsumerCallbacks,
    _deadline: number,
    signal?: AbortSignal,
  ): Promise<DriverConsumer> {
    const trouble = this.joins.shift()?.(spec)
    if (trouble !== undefined) return Promise.reject(trouble)
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const consumer = new FakeConsumer(this, spec, callbacks)
    this.consumers.push(consumer)
    if (this.first.length > 0) consumer.assign(this.first)
    return Promise.resolve(consumer)
  }
}

/** A client as a test drives it. */
export class FakeConsumer implements DriverConsumer {
  readonly spec: GroupSpec
  readonly callbacks: ConsumerCallbacks
  readonly #driver: FakeDriver
  readonly #positions = new Map<string, bigint>()
  readonly paused: Set<string> = new Set()
  parts: readonly TopicPartition[] = []
  subscribed: (readonly string[])[] = []
  epoch = 0
  isClosed = false
  renewed = 0
  #isReading = false

  constructor(driver: FakeDriver, spec: GroupSpec, callbacks: ConsumerCallbacks) {
    this.#driver = driver
    this.spec = spec
    this.callbacks = callbacks
  }

  assign(parts: readonly TopicPartition[]): void {
    this.epoch++
    this.parts = parts
    for (const part of parts) this.#driver.log(nameOf(part))
    for (const name of [...this.#positions.keys()]) {
      const isKept = parts.some((part) => nameOf(part) === name)
      if (!isKept) this.#positions.delete(name)
      else if (this.#driver.isForgetful) {
        this.#positions.set(name, this.#driver.offsets.get(name)?.offset ?? 0n)
      }
    }
    if (this.#driver.isForgetful) this.paused.clear()
    this.callbacks.assigned(this.epoch, parts)
    this.read()
  }

  /** The membership is over. */
  lose(): void {
    const { epoch } = this
    this.epoch++
    this.parts = []
    this.#positions.clear()
    this.callbacks.lost(epoch)
  }

  /** Hands over what comes next of every partition that is neither paused nor at its end, soon. */
  read(): void {
    if (this.#isReading || this.isClosed) return
    this.#isReading = true
    queueMicrotask(() => {
      this.#isReading = false
      if (this.#readOnce()) this.read()
    })
  }

  /** Hands a batch over once more, as a client that lost its place. */
  repeat(part: TopicPartition, from: bigint): void {
    const { records, end } = this.#driver.log(nameOf(part))
    const again = records.filter(({ offset }) => offset >= from)
    this.callbacks.records(this.epoch, part, again, end, end)
  }

  pause(parts: readonly TopicPartition[]): void {
    for (const part of parts) this.paused.add(nameOf(part))
  }

  resume(parts: readonly TopicPartition[]): void {
    for (const part of parts) this.paused.delete(nameOf(part))
    this.read()
  }

  subscribe(topics: readonly string[]): void {
    this.subscribed.push(topics)
  }

  renew(): void {
    this.renewed++
  }

  async commit(epoch: number, offsets: readonly CommitOffset[]): Promise<void> {
    await this.#driver.commitGate
    const trouble = this.#driver.commitTroubles.shift()
    if (trouble !== undefined) throw trouble
    if (epoch !== this.epoch) throw new HoldfastError('aborted', `epoch ${epoch} is over`)
    this.#driver.commits.push(offsets)
    for (const one of offsets) {
      const { offset, metadata } = one
      this.#driver.offsets.set(nameOf(one), { offset, metadata })
    }
  }

  async transact(
    epoch: number,
    rounds: readonly (readonly Part[])[],
    offsets: readonly CommitOffset[],
  ): Promise<TransactResult> {
    await this.#driver.transactGate
    const end = this.#driver.transactions.shift()
    if (epoch !== this.epoch || end === 'aborted') return 'aborted'
    if (end === 'unknown') return end
    this.#driver.written.push(...rounds.flat())
    for (const one of offsets) {
      const { offset, metadata } = one
      this.#driver.offsets.set(nameOf(one), { offset, metadata })
    }
    return end === undefined ? 'committed' : 'unknown'
  }

  async committed(parts: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    const trouble = this.#driver.committedTroubles.shift()
    if (trouble !== undefined) throw trouble
    return parts.map((part) => {
      const found = this.#driver.offsets.get(nameOf(part))
      return { ...part, offset: found?.offset ?? null, metadata: found?.metadata ?? null }
    })
  }

  seek(part: TopicPartition, offset: bigint): void {
    this.#positions.set(nameOf(part), offset)
    this.read()
  }

  close(): Promise<void> {
    this.isClosed = true
    return Promise.resolve()
  }

  #readOnce(): boolean {
    let hasRead = false
    for (const part of this.parts) {
      const name = nameOf(part)
      const position = this.#positions.get(name)
      if (position === undefined || this.paused.has(name)) continue
      const { records, begin, end } = this.#driver.log(name)
      if (position < begin || position > end) {
        this.#positions.delete(name)
        this.callbacks.outOfRange(this.epoch, part, position, { begin, end })
        continue
      }
      if (position === end) continue
      const from = indexOf(records, position)
      const taken = records.slice(from, from + this.#driver.batchSize)
      const rest = records[from + taken.length]
      const next = rest?.offset ?? end
      this.#positions.set(name, next)
      this.callbacks.records(this.epoch, part, taken, next, end)
      hasRead = true
    }
    return hasRead
  }
}

/** Where the first record of that offset or behind it is. */
function indexOf(records: readonly FetchedRecord[], offset: bigint): number {
  let [from, to] = [0, records.length]
  while (from < to) {
    const middle = (from + to) >> 1
    if (records[middle]!.offset < offset) from = middle + 1
    else to = middle
  }
  return from
}
