import type { DeliverySink } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { BUCKETS } from '../sql/lease.ts'
import { Alarm } from './alarm.ts'
import type { SqliteFile } from './file.ts'
import { giveUpLeases, leaseRound, myLeases, type Round } from './leases.ts'
import { BucketSource } from './source.ts'

/** What an assignment needs. */
export interface AssignmentOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly sink: DeliverySink
  readonly owner: string
  readonly queue: number
  readonly queueName: string
  readonly leaseMs: number
  /** Everything settled so far is in the file. */
  readonly flush: (deadline: number) => Promise<void>
  /** Sources came. */
  gained(): void
  /** Their unsettled deliveries are not ours any more. */
  dropped(sources: readonly BucketSource[]): void
  /** Whether sources start paused. */
  paused(): boolean
}

/** Renewed this often within a lease's time. */
const ROUNDS_PER_LEASE = 3
/** A lease not renewed counts as lost this early, so that nothing is handed out at its very end. */
const SAFE_PART = 0.85

/**
 * The buckets of one queue that one receiver has: leased, renewed, shared fairly with other
 * receivers, given up when asked, lost when they could not be renewed in time.
 */
export class Assignment {
  readonly #options: AssignmentOptions
  readonly #sources = new Map<number, BucketSource>()
  readonly #renewal: Alarm
  readonly #expiry: Alarm
  #asking = false
  #contenders = 1
  #open = true

  constructor(options: AssignmentOptions) {
    this.#options = options
    this.#renewal = new Alarm(options.clock, () => this.round())
    this.#expiry = new Alarm(options.clock, () => this.lose([...this.#sources.values()]))
  }

  get sources(): ReadonlyMap<number, BucketSource> {
    return this.#sources
  }

  /** Buckets this receiver should have. */
  get share(): number {
    return Math.ceil(BUCKETS / Math.max(1, this.#contenders))
  }

  /** What a look found differs from what is known: others came or went, buckets are free or gone. */
  outdated(seen: { mine: number; free: number; contenders: number }): boolean {
    const { size } = this.#sources
    return (
      seen.mine !== size ||
      seen.contenders !== this.#contenders ||
      (seen.free > 0 && size < this.share)
    )
  }

  /** Asks for, or renews, our share. One round at a time. */
  round(): void {
    if (this.#asking || !this.#open) return
    this.#asking = true
    const { clock, file, queue: scope, owner, leaseMs: ttlMs } = this.#options
    const want = (contenders: number): number => Math.ceil(BUCKETS / contenders)
    file.writer.add({
      deadline: Infinity,
      run: (db) => ({
        startedAt: clock.now(),
        round: leaseRound(db, { scope, owner, ttlMs, want }),
      }),
      done: ({ startedAt, round }) => this.#grant(startedAt, round),
      failed: () => {
        this.#asking = false
        this.#renewAt(clock.now() + ttlMs / ROUNDS_PER_LEASE / 2)
      },
    })
  }

  /** No longer ours: whoever has them now delivers what was not settled. */
  lose(sources: readonly BucketSource[]): void {
    if (sources.length === 0) return
    for (const source of sources) {
      source.state = 'lost'
      this.#sources.delete(source.bucket)
    }
    this.#options.dropped(sources)
    this.#options.sink.lost(sources)
    this.#renewAt(this.#options.clock.now())
  }

  /** No more rounds; what is leased stays so until `release`. */
  stop(): void {
    this.#open = false
    this.#renewal.cancel()
    this.#expiry.cancel()
  }

  /** Gives everything up, so that others need not wait. */
  async release(deadline: number): Promise<void> {
    this.stop()
    const sources = [...this.#sources.values()]
    for (const source of sources) source.state = 'lost'
    this.#sources.clear()
    this.#options.dropped(sources)
    const { file, queue, owner } = this.#options
    // Also what a round has leased since it was stopped.
    await file.writer.write(deadline, (db) => {
      giveUpLeases(db, queue, owner, myLeases(db, queue, owner))
    })
    file.nudges.tell(queue, 'other')
  }

  #grant(startedAt: number, { leases, contenders }: Round): void {
    this.#asking = false
    if (!this.#open) return
    const { clock, leaseMs, queueName, file, queue } = this.#options
    this.#contenders = contenders
    const granted = new Map(leases.map((lease) => [lease.bucket, lease]))
    const gone = [...this.#sources.values()].filter(
      ({ bucket, epoch, state }) => state !== 'lost' && granted.get(bucket)?.epoch !== epoch,
    )
    this.lose(gone)
    const before = this.#sources.size
    for (const lease of leases) {
      if (this.#sources.has(lease.bucket)) continue
      this.#sources.set(lease.bucket, new BucketSource(queueName, lease, this.#options.paused()))
    }
    this.#expiry.cancel()
    if (this.#sources.size > 0) this.#expiry.setBy(startedAt + leaseMs * SAFE_PART)
    this.#renewAt(startedAt + leaseMs / ROUNDS_PER_LEASE)
    if (this.#sources.size > before) this.#options.gained()
    if (before === 0) file.nudges.tell(queue, 'other')
    this.#shareOut(clock.now() + leaseMs)
  }

  /** Hands what is beyond our share to the others, asking the consumer first. */
  #shareOut(deadline: number): void {
    const held = [...this.#sources.values()].filter(({ state }) => state === 'held')
    const surplus = held.length - this.share
    if (surplus <= 0) return
    const leaving = held.toSorted((one, other) => one.held - other.held).slice(0, surplus)
    for (const source of leaving) source.state = 'revoking'
    void this.#revoke(leaving, deadline)
  }

  async #revoke(sources: readonly BucketSource[], deadline: number): Promise<void> {
    const { clock, sink, file, queue, owner, flush } = this.#options
    const ask = (): Promise<void> => sink.revoking(sources, deadline)
    const what = `handing ${sources.length} sources over`
    await withDeadline(clock, deadline, ask, what).catch(() => undefined)
    await flush(deadline).catch(() => undefined)
    const ours = sources.filter(({ state }) => state === 'revoking')
    const unsettled = ours.filter(({ held }) => held > 0)
    for (const source of ours) source.state = 'lost'
    this.#options.dropped(ours)
    if (unsettled.length > 0) sink.lost(unsettled)
    const give = file.writer.write(deadline, (db) => giveUpLeases(db, queue, owner, ours))
    await give.catch(() => undefined)
    // Known until here, so that no round takes them for new ones.
    for (const source of ours) this.#forget(source)
    file.nudges.tell(queue, 'other')
  }

  #forget(source: BucketSource): void {
    if (this.#sources.get(source.bucket) === source) this.#sources.delete(source.bucket)
  }

  #renewAt(instant: number): void {
    if (this.#open) this.#renewal.setBy(instant)
  }
}
