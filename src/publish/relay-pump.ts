import type { Deadline } from '../contract/broker.ts'
import { sleep, type Clock, type Random } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import { PublishRefusedError, type ErrorCode, type HoldfastError } from '../contract/errors.ts'
import type { Lease, OutboxStore, StoredRow } from '../contract/store.ts'
import { exponential, type Backoff } from '../policy/backoff.ts'
import { DelayQueue } from '../policy/delay-queue.ts'
import { Wake } from '../policy/wake.ts'
import type { Dispatcher } from '../send/deliver.ts'
import type { Completions } from './completions.ts'
import type { Leases } from './leases.ts'
import { RelayRow, type RowOwner } from './relay-row.ts'
import type { RelayRows } from './relay-rows.ts'
import type { Steady } from './steady.ts'

/** What moving rows needs. */
export interface PumpOptions {
  readonly store: Pick<OutboxStore<never>, 'read'>
  readonly leases: Leases
  readonly rows: RelayRows
  readonly completions: Completions
  readonly dispatcher: Dispatcher<unknown>
  readonly steady: Steady
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
  readonly batchSize: number
  readonly pollMs: number
  readonly sendTimeoutMs: number
  readonly attempts: number
  readonly backoff: Backoff
  readonly onPoison: 'park-and-continue' | 'block-key'
}

/** Refusals that are about the message itself; every other one is about the way, the broker or our own doing. */
const itsFault: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'unroutable',
  'too-large',
  'rejected',
  'codec',
  'schema',
])
/** Refusals that come by themselves when a broker is away or a relay stops: its events tell of those. */
const expected: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'not-sent',
  'predecessor',
  'aborted',
  'closed',
  'unavailable',
])
const wayBackoff = exponential({ initialMs: 100, maxMs: 5_000 })
/** Rows that follow each other closely are read together, so that they share reads, sends and deletes. */
const GATHER_MS = 2
/** How long the pump sleeps at most while it may not read: a safety net, it is rung. */
const SHUT_MS = 1_000
/** Whatever refuses one message refuses them all: that is told this often at most. */
const TELL_EVERY_MS = 10_000

/** Reads rows and hands them to the dispatcher, the next read under way while they are published. */
export class RelayPump implements RowOwner {
  readonly #options: PumpOptions
  readonly #wake: Wake
  readonly #resting: DelayQueue<RelayRow>
  #idleMs: number
  #stopping = false
  #starved = false
  #foundAt = Number.NEGATIVE_INFINITY
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(options: PumpOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
    this.#resting = new DelayQueue(options.clock, (row) => this.#rested(row))
    this.#idleMs = options.pollMs
  }

  /** Runs until `stop`. */
  run(): Promise<void> {
    const round = (): Promise<number> => this.#round()
    const job = { name: 'read', wake: this.#wake, round, ended: () => this.#stopping }
    return this.#options.steady.rounds(job)
  }

  /** Looks for rows now. */
  ring(): void {
    this.#wake.ring()
  }

  /** Looks for rows now if it could not before, for want of room or of a way. */
  ringIfStarved(): void {
    if (this.#starved) this.#wake.ring()
  }

  /** Reads nothing more and gives back what rests; what was sent goes on. */
  stop(): void {
    this.#stopping = true
    this.#resting.clear()
    for (const row of [...this.#options.rows]) {
      if (row.state === 'resting') this.#options.rows.giveBack(row)
    }
    this.ring()
  }

  /** These buckets are not ours any more: what rests of them is somebody else's. */
  lost(leases: readonly Lease[]): void {
    const buckets = new Set(leases.map(({ bucket }) => bucket))
    for (const row of [...this.#options.rows]) {
      if (row.state === 'resting' && buckets.has(row.stored.bucket)) {
        this.#options.rows.giveBack(row)
      }
    }
  }

  until(row: RelayRow): Deadline {
    return this.#isOurs(row) ? this.#options.leases.until : Number.NEGATIVE_INFINITY
  }

  /** By the right under which it was read: another relay may have sent it since, where that was lost and had again. */
  #isOurs({ stored: { bucket }, lease }: RelayRow): boolean {
    return this.#options.leases.of(bucket)?.epoch === lease.epoch
  }

  confirmed(row: RelayRow): void {
    const { rows, completions, crash } = this.#options
    row.state = 'ended'
    rows.unblock(row)
    if (rows.size > 1) crash.at('after_confirm_some')
    completions.confirmed(row)
  }

  failed(row: RelayRow, error: HoldfastError): void {
    const { rows } = this.#options
    if (this.#stopping || !this.#isOurs(row) || !rows.isHead(row)) {
      rows.giveBack(row)
    } else if (isPoison(error)) this.#refused(row, error)
    else {
      this.#tell(error)
      this.#rest(row, wayBackoff.delayFor(++row.failures, this.#options.random))
    }
  }

  /** The broker cannot store anything at the moment, and somebody may have to act. */
  #tell(error: HoldfastError): void {
    const { clock, steady } = this.#options
    const isRefused = error instanceof PublishRefusedError && !expected.has(error.code)
    if (!isRefused || clock.now() - this.#toldAt < TELL_EVERY_MS) return
    this.#toldAt = clock.now()
    steady.failed('publish', error)
  }

  /** Only what is wrong with the message itself counts: a broker that fails never uses up attempts. */
  #refused(row: RelayRow, error: HoldfastError): void {
    const { attempts, backoff, onPoison, random, rows, completions } = this.#options
    row.refusals++
    if (row.refusals < attempts || onPoison === 'block-key') {
      this.#rest(row, backoff.delayFor(Math.min(row.refusals, attempts), random))
      return
    }
    row.state = 'ended'
    rows.block(row)
    void completions.park(row, `${error.code}: ${error.message}`)
  }

  /** It is tried again later, and nothing of its key before. */
  #rest(row: RelayRow, delayMs: number): void {
    row.state = 'resting'
    this.#options.rows.block(row)
    this.#resting.add(delayMs, row)
  }

  #rested(row: RelayRow): void {
    if (row.state === 'resting' && this.#options.rows.has(row)) this.#offer(row)
  }

  #offer(row: RelayRow): void {
    const { dispatcher, clock, sendTimeoutMs } = this.#options
    row.state = 'sent'
    dispatcher.offer(row.envelope, { deadline: clock.now() + sendTimeoutMs }, row)
  }

  /** One look for rows; returns how long to sleep after it. */
  async #round(): Promise<number> {
    await this.#gather()
    const { leases, rows, store, steady, crash, dispatcher, clock } = this.#options
    const limit = this.#limit()
    const reading = leases.reading
    this.#starved = limit === 0 || reading.length === 0
    if (this.#starved) return SHUT_MS
    const skip = rows.beginRead(this.#stopped())
    const got = await steady.call('read', () => store.read(reading, limit, skip))
    if (this.#stopping) return 0
    if (got.length > 0) crash.at('after_select')
    this.#takeAll(got, reading)
    if (got.length === limit && dispatcher.way === 'open') return 0
    if (got.length > 0) this.#foundAt = clock.now()
    this.#idleMs = got.length > 0 ? this.#options.pollMs / 8 : this.#idleMs * 2
    this.#idleMs = Math.min(this.#idleMs, this.#options.pollMs)
    return this.#idleMs
  }

  /** Lets the rows gather that follow the last ones. */
  async #gather(): Promise<void> {
    const { clock } = this.#options
    const restMs = this.#foundAt + GATHER_MS - clock.now()
    if (restMs > 0) await sleep(clock, restMs)
  }

  /** How many rows may be read: none while the broker is away, one to see whether it works again. */
  #limit(): number {
    const { dispatcher, rows, batchSize } = this.#options
    if (dispatcher.way === 'open') return Math.min(batchSize, rows.room)
    dispatcher.open()
    return dispatcher.way === 'probe' && rows.size === 0 ? 1 : 0
  }

  /** Topics whose breaker is open, and half-open ones that have a row here to try it with. */
  #stopped(): readonly string[] {
    const { dispatcher, rows } = this.#options
    const tried = dispatcher.stopped('half-open').filter((topic) => rows.ofTopic(topic) > 0)
    return [...dispatcher.stopped('open'), ...tried]
  }

  #takeAll(got: readonly StoredRow[], reading: readonly Lease[]): void {
    const { leases, rows } = this.#options
    const byBucket = new Map(reading.map((lease) => [lease.bucket, lease]))
    for (const stored of got) {
      const lease = byBucket.get(stored.bucket)
      // Read under a right that has ended since: the new owner reads it too.
      if (lease === undefined || leases.of(stored.bucket)?.epoch !== lease.epoch) continue
      if (!rows.isWelcome(stored)) continue
      const row = new RelayRow(stored, lease, this)
      rows.add(row)
      this.#offer(row)
    }
  }
}

function isPoison(error: HoldfastError): boolean {
  return error instanceof PublishRefusedError && !error.retryable && itsFault.has(error.code)
}
