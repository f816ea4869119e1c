import type { Clock } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import type { Emit } from '../contract/events.ts'
import type { Lease, OutboxStore, RowRef } from '../contract/store.ts'
import type { Leases } from './leases.ts'
import type { RelayRow } from './relay-row.ts'
import type { Steady } from './steady.ts'

/** Rows deleted by one statement, at most. */
const MOST_AT_ONCE = 1_000

/** What taking rows out of the outbox needs. */
export interface CompletionsOptions {
  readonly store: Pick<OutboxStore<never>, 'complete' | 'park'>
  readonly leases: Leases
  readonly steady: Steady
  readonly clock: Clock
  readonly crash: CrashPoints
  readonly emit: Emit
  /** Told when rows are out of the outbox, or not ours any more. */
  readonly done: (rows: readonly RelayRow[], fenced: boolean) => void
}

/** Takes confirmed rows out of the outbox, in batches, and parks those that were given up. Never before. */
export class Completions {
  readonly #options: CompletionsOptions
  #confirmed: RelayRow[] = []
  #running = false
  #parking = 0

  constructor(options: CompletionsOptions) {
    this.#options = options
  }

  /** Something is still to be taken out. */
  get isBusy(): boolean {
    return this.#running || this.#parking > 0
  }

  /** The broker has it. What is confirmed in the same turn goes with the same statement. */
  confirmed(row: RelayRow): void {
    this.#confirmed.push(row)
    if (this.#running) return
    this.#running = true
    this.#options.clock.defer(() => void this.#run())
  }

  /** The broker will never take it. */
  async park(row: RelayRow, reason: string): Promise<void> {
    const { store, steady, emit } = this.#options
    this.#parking++
    try {
      const park = (): Promise<number> => store.park(this.#leasesOf([row]), [refOf(row)], reason)
      const parked = await steady.call('park', park)
      if (parked > 0) emit({ type: 'relay.parked', topic: row.topic, id: row.envelope.id, reason })
      this.#finish([row], parked)
    } catch (error) {
      // When stopped, the row stays in the outbox for the next relay.
      steady.failed('park', error)
    } finally {
      this.#parking--
    }
  }

  async #run(): Promise<void> {
    const { store, steady, crash, emit } = this.#options
    try {
      while (this.#confirmed.length > 0) {
        const rows = this.#confirmed.splice(0, MOST_AT_ONCE)
        crash.at('after_confirm_before_delete')
        const complete = (): Promise<number> =>
          store.complete(this.#leasesOf(rows), rows.map(refOf))
        const deleted = await steady.call('complete', complete)
        crash.at('after_delete_before_ack_state')
        if (deleted > 0) emit({ type: 'relay.published', count: deleted })
        this.#finish(rows, deleted)
      }
    } catch (error) {
      // When stopped, what is confirmed and not deleted is sent once more by the next relay, with its id.
      steady.failed('complete', error)
    } finally {
      this.#running = false
    }
  }

  #finish(rows: readonly RelayRow[], ours: number): void {
    const { emit, done } = this.#options
    const fenced = rows.length - ours
    if (fenced > 0) emit({ type: 'relay.fenced', count: fenced })
    done(rows, fenced > 0)
  }

  /** The leases that fence these rows: ours of now, or for a bucket that was lost the one they were read under. */
  #leasesOf(rows: readonly RelayRow[]): readonly Lease[] {
    const leases = new Map<number, Lease>()
    for (const { lease } of rows) {
      leases.set(lease.bucket, this.#options.leases.of(lease.bucket) ?? lease)
    }
    return [...leases.values()]
  }
}

function refOf({ stored: { id, messageId, bucket } }: RelayRow): RowRef {
  return { id, messageId, bucket }
}
