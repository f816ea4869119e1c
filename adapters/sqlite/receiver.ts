import type {
  Deadline,
  DeliverySink,
  Receiver,
  Source,
  Subscription,
} from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import { Alarm } from './alarm.ts'
import type { EnvelopeRows } from '../sql/envelope.ts'
import type { Claim } from './claim.ts'
import type { SqliteFile } from './file.ts'
import { Intake, type Queue } from './intake.ts'
import { Room } from './room.ts'
import { Settles } from './settles.ts'
import type { BucketSource } from './source.ts'
import { Watch } from './watch.ts'

/** What a receiver needs. */
export interface ReceiverOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly emit: Emit
  readonly rows: EnvelopeRows
  /** Unique to this receiver: its leases are in this name. */
  readonly owner: string
  readonly leaseMs: number
  readonly pollMs: number
  readonly queues: readonly Queue[]
}

const AGAIN_MS = 100

/** open: delivers. stopped: settles only. closed: neither. */
type State = 'open' | 'stopped' | 'closed'

/**
 * Reads the queues of one group. A claim is part of whatever transaction comes next, so that settles,
 * publishes and claims of a process share one COMMIT.
 */
export class SqliteReceiver implements Receiver {
  readonly #options: ReceiverOptions
  readonly #sink: DeliverySink
  readonly #room: Room
  readonly #settles: Settles
  readonly #intakes: readonly Intake[]
  readonly #watch: Watch
  readonly #again: Alarm
  #state: State = 'open'
  #paused = false
  #claiming = false
  #turn = 0
  #closing: Promise<void> | null = null

  constructor(options: ReceiverOptions, subscription: Subscription, sink: DeliverySink) {
    const { file, clock, emit, owner } = options
    this.#options = options
    this.#sink = sink
    this.#room = new Room(subscription.maxHeld)
    this.#again = new Alarm(clock, () => this.#look())
    this.#settles = new Settles({
      file,
      clock,
      emit,
      owner,
      hasRoom: () => this.#room.isHalfFree,
      settled: (delivery, applied) => delivery.settled(applied),
    })
    this.#intakes = options.queues.map((queue) => this.#intake(queue, subscription))
    this.#watch = new Watch(file, clock, options.pollMs, () => this.#look())
  }

  pause(sources?: readonly Source[]): void {
    if (sources === undefined) this.#paused = true
    for (const source of this.#chosen(sources)) source.paused = true
  }

  resume(sources?: readonly Source[]): void {
    if (sources === undefined) this.#paused = false
    for (const source of this.#chosen(sources)) source.paused = false
    for (const intake of this.#intakes) intake.rewind()
  }

  flush(deadline: Deadline): Promise<void> {
    return this.#settles.flush(deadline)
  }

  stop(_deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopped'
    return Promise.resolve()
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #close(deadline: Deadline): Promise<void> {
    if (this.#state === 'closed') return
    await this.stop(deadline)
    this.#stopLooking()
    try {
      await this.#settles.flush(deadline)
    } finally {
      await this.#end(deadline)
      this.#sink.ended()
    }
  }

  #stopLooking(): void {
    this.#watch.stop()
    this.#again.cancel()
    for (const intake of this.#intakes) intake.stop()
  }

  async #end(deadline: Deadline): Promise<void> {
    this.#state = 'closed'
    this.#settles.close()
    const released = this.#intakes.map(({ assignment }) => assignment.release(deadline))
    // What cannot be given back now comes back when its lease expires.
    await Promise.allSettled(released)
  }

  #chosen(sources: readonly Source[] | undefined): readonly BucketSource[] {
    const all = this.#intakes.flatMap(({ assignment }) => [...assignment.sources.values()])
    return sources === undefined ? all : all.filter((source) => sources.includes(source))
  }

  #intake(queue: Queue, { ordering }: Subscription): Intake {
    const { file, clock, emit, rows, owner, leaseMs } = this.#options
    return new Intake({
      file,
      clock,
      emit,
      rows,
      owner,
      leaseMs,
      queue,
      ordering,
      sink: this.#sink,
      room: this.#room,
      settles: this.#settles,
      paused: () => this.#paused,
      ready: () => this.#claim(),
      gone: () => this.#gone(queue),
    })
  }

  #look(): void {
    for (const intake of this.#intakes) intake.look()
    this.#claim()
  }

  #claim(): void {
    if (this.#state !== 'open' || this.#claiming || this.#room.budget() === null) return
    if (!this.#intakes.some(({ ready }) => ready)) return
    this.#claiming = true
    this.#options.file.writer.add({
      deadline: Infinity,
      run: (db) => {
        const budget = this.#state === 'open' ? this.#room.budget() : null
        if (budget === null) return []
        return this.#inTurn().map((intake) => ({ intake, claim: intake.claim(db, budget) }))
      },
      done: (claims) => this.#take(claims),
      failed: (error) => {
        this.#claiming = false
        this.#tell(error)
        if (this.#state === 'open') this.#again.setBy(this.#options.clock.now() + AGAIN_MS)
      },
    })
  }

  #tell({ message }: Error): void {
    const { emit, file } = this.#options
    const text = `nothing can be received from ${file.path}, and is tried again: ${message}`
    emit({ type: 'warning', code: 'sqlite.receiving', message: text })
  }

  /** Every topic goes first in its turn. */
  #inTurn(): readonly Intake[] {
    const first = this.#turn++ % this.#intakes.length
    return [...this.#intakes.slice(first), ...this.#intakes.slice(0, first)]
  }

  #take(claims: readonly { readonly intake: Intake; readonly claim: Claim | null }[]): void {
    this.#claiming = false
    for (const { intake, claim } of claims) {
      if (claim !== null) intake.take(claim)
    }
    this.#claim()
  }

  /** Somebody removed the queue behind our back: nothing of it can be settled any more. */
  #gone({ topic, group }: Queue): void {
    if (this.#state === 'closed') return
    this.#stopLooking()
    const { clock, leaseMs } = this.#options
    const sources = this.#chosen(undefined)
    void this.#end(clock.now() + leaseMs)
    this.#sink.lost(sources)
    const text = `group "${group}" of topic "${topic}" is not in ${this.#options.file.path} any more: declare it again, then start a new consumer`
    this.#sink.ended(new HoldfastError('destination-gone', text, { topic }))
  }
}
