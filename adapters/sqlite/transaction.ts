import type { Deadline } from '../../src/contract/broker.ts'
import type { CrashPoints } from '../../src/contract/crash-points.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { OUTBOX_SCOPE } from '../sql/lease.ts'
import type { RunResult, SqlRow, SqlValue } from './driver.ts'
import { endsTransaction, ownTransactionError, storageError, troubleOf } from './errors.ts'
import type { SqliteFile } from './file.ts'
import { insideTransactionOn } from './own-transaction.ts'
import type { Prepared } from './prepared.ts'
import type { HoldKind } from './turn.ts'

/**
 * An open transaction, as handlers and `openDatabase().transaction()` get it. Statements are prepared
 * once and kept; parameters are positional. Whole numbers come back as numbers where that is exact,
 * else as bigints; blobs as `Uint8Array`. After its end every call throws with code `not-a-transaction`.
 */
export interface SqliteTransaction {
  run(sql: string, ...params: readonly SqlValue[]): RunResult
  get(sql: string, ...params: readonly SqlValue[]): SqlRow | undefined
  all(sql: string, ...params: readonly SqlValue[]): SqlRow[]
}

const control = /^\s*(?:begin|commit|end|rollback(?!\s+(?:transaction\s+)?to\b))\b/i

/** What the parts of one transaction have in common. */
export interface Shared {
  /** Rows were added to the outbox. */
  appended: boolean
}

/** The implementation, which stores recognise. */
export class OpenTransaction implements SqliteTransaction {
  readonly file: SqliteFile
  readonly #db: Prepared
  readonly #shared: Shared
  #state: 'open' | 'over' | Error = 'open'

  constructor(file: SqliteFile, db: Prepared, shared: Shared) {
    this.file = file
    this.#db = db
    this.#shared = shared
  }

  run(sql: string, ...params: readonly SqlValue[]): RunResult {
    return this.#guard(sql, () => this.#db.exact(sql).run(...params))
  }

  get(sql: string, ...params: readonly SqlValue[]): SqlRow | undefined {
    return this.#guard(sql, () => this.#db.exact(sql).get(...params))
  }

  all(sql: string, ...params: readonly SqlValue[]): SqlRow[] {
    return this.#guard(sql, () => this.#db.exact(sql).all(...params))
  }

  /** The connection, to append to the outbox. */
  appending(): Prepared {
    this.#assertOpen()
    this.#shared.appended = true
    return this.#db
  }

  /** A statement that was not the user's failed in a way that took the whole transaction with it. */
  broke(error: Error): void {
    this.#state = error
  }

  /** Throws when a statement failed in a way that took the whole transaction with it. */
  assertWhole(): void {
    if (this.#state instanceof Error) throw this.#state
  }

  /** Later calls are refused: whoever still holds it must not write into somebody else's transaction. */
  end(): void {
    if (this.#state === 'open') this.#state = 'over'
  }

  #guard<T>(sql: string, work: () => T): T {
    this.#assertOpen()
    if (control.test(sql)) {
      throw new HoldfastError(
        'own-transaction',
        `${sql.trim().split(/\s/)[0]} inside a transaction of holdfast, which begins and ends it itself: use SAVEPOINT and ROLLBACK TO`,
      )
    }
    try {
      return work()
    } catch (error) {
      const trouble = troubleOf(error)
      if (trouble === null) throw error
      const named = storageError(error, this.file.path, `statement "${sql.trim().slice(0, 60)}"`)
      // SQLite may have rolled back already: what comes after would be committed on its own.
      if (endsTransaction(trouble)) this.#state = named
      throw named
    }
  }

  #assertOpen(): void {
    this.assertWhole()
    if (this.#state === 'open') return
    throw new HoldfastError(
      'not-a-transaction',
      'the transaction is over: await everything that uses it before its function returns',
    )
  }
}

/** What a transaction needs. */
export interface TransactOptions {
  readonly file: SqliteFile
  readonly deadline: Deadline
  readonly crash: CrashPoints
  /** Names the call in an error. */
  readonly what: string
  readonly kind: HoldKind
}

/**
 * Runs `work` in a transaction of its own and resolves after the COMMIT; listeners of the outbox are
 * told then. Rejects with code `own-transaction` when the caller is inside one on this file already.
 */
export async function transact<T>(
  { file, deadline, crash, what, kind }: TransactOptions,
  work: (db: Prepared, shared: Shared) => Promise<T>,
): Promise<T> {
  if (insideTransactionOn(file.path)) throw ownTransactionError(what, file.path)
  const shared: Shared = { appended: false }
  const value = await file.writer.hold({ deadline, kind }, async (db) => {
    const result = await work(db, shared)
    if (shared.appended) crash.at('after_insert_before_commit')
    return result
  })
  if (shared.appended) {
    crash.at('after_commit_before_nudge')
    file.nudges.tell(OUTBOX_SCOPE, 'rows')
  }
  return value
}

/** Hands `work` the open transaction, which is over when the promise of `work` has settled. */
export async function within<T>(
  tx: OpenTransaction,
  work: (tx: OpenTransaction) => Promise<T> | T,
): Promise<T> {
  try {
    const result = await work(tx)
    tx.assertWhole()
    return result
  } finally {
    tx.end()
  }
}
