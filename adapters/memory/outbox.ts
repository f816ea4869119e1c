import { type CrashPoints, noCrashes } from '../../src/contract/crash-points.ts'
import { ClosedError, OptionError } from '../../src/contract/errors.ts'
import { refuseUnknownOptions } from '../../src/contract/option.ts'
import type {
  Lease,
  LeaseGrant,
  OutboxRow,
  OutboxStats,
  OutboxStore,
  RowRef,
  Skip,
  StoreContext,
  StoredRow,
} from '../../src/contract/store.ts'
import { MemoryDatabase } from './database.ts'
import type { DeadRow } from './outbox-table.ts'
import type { CommitListener, MemoryTransaction } from './transaction.ts'

/** What `memoryOutbox()` takes. */
export interface MemoryStoreOptions {
  /** Default: a database of its own, found as `database` of the store. */
  readonly database?: MemoryDatabase
}

/** The outbox of a `MemoryDatabase`, as one process has it. */
export class MemoryOutbox implements OutboxStore<MemoryTransaction>, CommitListener {
  readonly database: MemoryDatabase
  readonly #listeners = new Set<() => void>()
  #crash: CrashPoints = noCrashes
  #state: 'new' | 'open' | 'closed' = 'new'

  constructor(options: MemoryStoreOptions = {}) {
    this.database = databaseOf('memoryOutbox', options)
  }

  open(context: StoreContext): Promise<void> {
    return this.#step(() => {
      this.database.adopt(context.clock)
      this.#crash = context.crash
      this.#state = 'open'
    })
  }

  async append(tx: MemoryTransaction, rows: readonly OutboxRow[]): Promise<void> {
    this.#assertNotClosed()
    const { outbox } = this.database
    const transaction = this.database.checked(tx)
    const prepared = outbox.prepare(rows)
    transaction.atCommit(() => outbox.put(prepared), this)
  }

  appendAlone(rows: readonly OutboxRow[]): Promise<void> {
    return this.database.transaction((tx) => this.append(tx, rows))
  }

  lease(owner: string, want: number, ttlMs: number): Promise<LeaseGrant> {
    return this.#step(({ outbox }) => {
      this.#crash.at('during_lease_renew')
      return outbox.leases.lease(owner, want, ttlMs, this.database.nowMs())
    })
  }

  read(leases: readonly Lease[], limit: number, skip: Skip): Promise<readonly StoredRow[]> {
    return this.#step(({ outbox }) => outbox.read(leases, limit, skip))
  }

  complete(leases: readonly Lease[], rows: readonly RowRef[]): Promise<number> {
    return this.#step(({ outbox }) => {
      this.#crash.at('during_delete')
      return outbox.remove(leases, rows).length
    })
  }

  park(leases: readonly Lease[], rows: readonly RowRef[], reason: string): Promise<number> {
    return this.#step(({ outbox }) => {
      this.#crash.at('during_park')
      const parked = outbox.remove(leases, rows)
      outbox.bury(parked, reason)
      return parked.length
    })
  }

  promote(
    leases: readonly Lease[],
    limit: number,
  ): Promise<{ readonly moved: number; readonly nextDueMs: number | null }> {
    return this.#step(({ outbox }) => outbox.promote(leases, limit))
  }

  release(leases: readonly Lease[]): Promise<void> {
    return this.#step(({ outbox }) => outbox.leases.release(leases))
  }

  stats(): Promise<OutboxStats> {
    return this.#step(({ outbox }) => {
      const oldest = outbox.pending.oldest()
      return {
        pending: outbox.pending.size,
        scheduled: outbox.scheduled,
        dead: outbox.dead.length,
        oldestAgeMs: oldest === undefined ? null : this.database.nowMs() - oldest.createdMs,
      }
    })
  }

  /** The rows that were given up, oldest first. */
  dead(): readonly DeadRow[] {
    return [...this.database.outbox.dead]
  }

  onAppended(listener: () => void): () => void {
    const entry = (): void => listener()
    this.#listeners.add(entry)
    return () => void this.#listeners.delete(entry)
  }

  /** Nobody is nudged any more and every later call is refused; rows and leases stay. Idempotent. */
  close(): Promise<void> {
    this.#state = 'closed'
    this.#listeners.clear()
    return Promise.resolve()
  }

  beforeCommit(): void {
    this.#crash.at('after_insert_before_commit')
  }

  afterCommit(): void {
    this.#crash.at('after_commit_before_nudge')
    for (const listener of this.#listeners) listener()
  }

  /** One statement in a transaction of its own: a round trip, then all of it at once. */
  async #step<T>(work: (database: MemoryDatabase) => T): Promise<T> {
    this.#assertNotClosed()
    await this.database.turn()
    this.database.assertReachable()
    return work(this.database)
  }

  #assertNotClosed(): void {
    if (this.#state === 'closed') throw new ClosedError('memory outbox')
  }
}

/** Makes an outbox; several on one database are as several processes. */
export function memoryOutbox(options: MemoryStoreOptions = {}): MemoryOutbox {
  return new MemoryOutbox(options)
}

/** The database of the options, or a new one. */
export function databaseOf(
  what: string,
  options: MemoryStoreOptions,
  more: readonly string[] = [],
): MemoryDatabase {
  refuseUnknownOptions(what, options, ['database', ...more])
  const { database = new MemoryDatabase() } = options
  if (database instanceof MemoryDatabase) return database
  throw new OptionError(`${what}.database`, database, 'a database made by memoryDatabase()')
}
