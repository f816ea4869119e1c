import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { Watched, type DeadlineWatch } from '../../src/policy/deadline-watch.ts'
import { BATCH_OVERHEAD } from './batch-writer.ts'
import type { DriverProducer, Part, PartResult } from './driver.ts'
import { notKnown } from './errors.ts'
import type { Outgoing } from './outgoing.ts'
import type { PartitionQueue } from './partition-queue.ts'

/** What lanes ask of the sender. */
export interface LaneOwner {
  /** A new producer. */
  produce(): DriverProducer
  /** Whether it may be written now; what it says no to it ends itself. */
  mayGo(item: Outgoing, now: number, maxBatchBytes: number): boolean
  /** A part has its end, and its queue is free again. */
  answered(queue: PartitionQueue, items: readonly Outgoing[], result: PartResult): void
  /** An answer has been waited for for long, and these queues wait behind it. */
  slow(waiting: readonly PartitionQueue[]): void
}

/** What a lane needs. */
export interface LaneOptions {
  readonly owner: LaneOwner
  readonly clock: Clock
  /** Watches over requests that take long. */
  readonly watch: DeadlineWatch
}

/** Bytes of one part, and of all parts of a request, at most. */
const MOST_PART_BYTES = 1_048_576
const MOST_REQUEST_BYTES = 4 * 1_048_576
/** The client says that long before the last deadline what it knows: whether anything was written at all. */
const VERDICT_MS = 10
/** After that long without an answer it is looked whether leaders moved away. */
const SLOW_MS = 3_000

/**
 * The way to some of the partitions that one node leads: one producer, at most one request of it
 * unresolved. What arrives meanwhile goes together with the next.
 */
export class LeaderLane {
  readonly #options: LaneOptions
  readonly #ready = new Set<PartitionQueue>()
  /** Requests some parts of which were answered, and others not: they keep their own producers. */
  readonly #stragglers = new Set<Flight>()
  #producer: DriverProducer | null = null
  #flight: Flight | null = null
  #isClosed = false

  constructor(options: LaneOptions) {
    this.#options = options
  }

  /** The queue has something to be written. */
  offer(queue: PartitionQueue): void {
    this.#ready.add(queue)
  }

  /** The queue goes another way from now on. */
  withdraw(queue: PartitionQueue): void {
    this.#ready.delete(queue)
  }

  /** Writes what is ready, unless an answer is waited for. */
  pump(): void {
    if (this.#flight !== null || this.#ready.size === 0 || this.#isClosed) return
    const { owner, clock, watch } = this.#options
    const flight = new Flight(this, clock.now() + SLOW_MS)
    this.#fill(flight)
    if (flight.parts.length === 0) return
    if (this.#producer?.usable !== true) {
      void this.#producer?.close()
      this.#producer = owner.produce()
    }
    flight.producer = this.#producer
    this.#flight = flight
    watch.add(flight)
    flight.settled = this.#producer
      .produce(flight.parts, flight.deadline - VERDICT_MS, (index, result) =>
        this.#told(flight, index, result),
      )
      .then(
        (results) => this.#settled(flight, results),
        (error: unknown) =>
          this.#settled(
            flight,
            flight.parts.map((part) => broken(part, error)),
          ),
      )
  }

  /** Ends its producers; what is unresolved then is the owner's to end. Never rejects. */
  async close(): Promise<void> {
    this.#isClosed = true
    const producers = new Set([this.#producer, ...this.#flights.map(({ producer }) => producer)])
    await Promise.all([...producers].map(async (producer) => producer?.close()))
  }

  /** Resolves when nothing is on its way any more, be it for ever. Never rejects. */
  async landed(): Promise<void> {
    await Promise.all(this.#flights.map(({ settled }) => settled))
  }

  get #flights(): readonly Flight[] {
    return [...this.#stragglers, ...(this.#flight === null ? [] : [this.#flight])]
  }

  slow(flight: Flight): void {
    const { owner, clock, watch } = this.#options
    if (flight === this.#flight && this.#ready.size > 0) owner.slow([...this.#ready])
    flight.dueAt = clock.now() + SLOW_MS
    watch.add(flight)
  }

  #fill(flight: Flight): void {
    const { owner, clock } = this.#options
    const now = clock.now()
    let bytes = 0
    for (const queue of this.#ready) {
      const maxBatchBytes = queue.route.layout?.maxMessageBytes ?? MOST_PART_BYTES
      const room = Math.min(MOST_PART_BYTES, maxBatchBytes) - BATCH_OVERHEAD
      const items = queue.take(room, (item) => owner.mayGo(item, now, maxBatchBytes))
      if (queue.size === 0 || items.length > 0) this.#ready.delete(queue)
      if (items.length === 0) continue
      queue.state = 'unresolved'
      flight.add(queue, items)
      for (const item of items) {
        item.call.wrote(item.index)
        bytes += item.bytes
      }
      if (bytes >= MOST_REQUEST_BYTES) return
    }
  }

  #told(flight: Flight, index: number, result: PartResult): void {
    if (!flight.end(index)) return
    this.#answer(flight, index, result)
    if (flight.isChecked || flight.left === 0) return
    flight.isChecked = true
    // In the same turn the others are usually told too.
    this.#options.clock.defer(() => this.#leaveBehind(flight))
  }

  #settled(flight: Flight, results: readonly PartResult[]): void {
    this.#options.watch.remove(flight)
    for (const [index, part] of flight.parts.entries()) {
      if (!flight.end(index)) continue
      this.#answer(flight, index, results[index] ?? broken(part, new Error('no result')))
    }
    this.#stragglers.delete(flight)
    if (this.#flight === flight) this.#flight = null
    else this.#keep(flight.producer as DriverProducer)
    this.pump()
  }

  #answer({ queues, items }: Flight, index: number, result: PartResult): void {
    const queue = queues[index] as PartitionQueue
    queue.state = 'idle'
    this.#options.owner.answered(queue, items[index] as Outgoing[], result)
  }

  /** Some parts wait for a new leader: the others do not wait with them. */
  #leaveBehind(flight: Flight): void {
    if (this.#flight !== flight || flight.left === 0) return
    this.#stragglers.add(flight)
    this.#flight = null
    this.#producer = null
    this.pump()
  }

  /** The producer of a straggler is as good as any. */
  #keep(producer: DriverProducer): void {
    if (this.#producer === null && producer.usable && !this.#isClosed) this.#producer = producer
    else void producer.close()
  }
}

/** One request of a lane. */
class Flight extends Watched {
  readonly parts: Part[] = []
  readonly queues: PartitionQueue[] = []
  readonly items: Outgoing[][] = []
  readonly #isEnded: boolean[] = []
  readonly #lane: LeaderLane
  deadline: Deadline = Number.NEGATIVE_INFINITY
  producer: DriverProducer | null = null
  settled: Promise<void> = Promise.resolve()
  /** Parts that are not answered. */
  left = 0
  isChecked = false

  constructor(lane: LeaderLane, slowAt: number) {
    super(slowAt)
    this.#lane = lane
  }

  add(queue: PartitionQueue, items: Outgoing[]): void {
    const { topic, partition } = queue
    this.parts.push({ topic, partition, records: items })
    this.queues.push(queue)
    this.items.push(items)
    this.#isEnded.push(false)
    this.left++
    // The last of them: those that end earlier are told at their own deadlines.
    for (const { call } of items) this.deadline = Math.max(this.deadline, call.dueAt)
  }

  /** false: the part was answered before. */
  end(index: number): boolean {
    if (this.#isEnded[index] !== false) return false
    this.#isEnded[index] = true
    this.left--
    return true
  }

  override onDue(): void {
    this.#lane.slow(this)
  }
}

function broken(part: Part, error: unknown): PartResult {
  return notKnown('unanswered', part, 'the client failed', error)
}
