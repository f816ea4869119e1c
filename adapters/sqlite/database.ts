import { systemClock, systemRandom, type Clock, type Random } from '../../src/contract/clock.ts'
import { noCrashes, type CrashPoints } from '../../src/contract/crash-points.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { resolveFile, type FileOptions, type ResolvedFile } from './options.ts'
import { shareFile, type FileShare } from './share.ts'
import { OpenTransaction, transact, within, type SqliteTransaction } from './transaction.ts'

/** Options of `openDatabase`. */
export interface DatabaseOptions extends FileOptions {
  readonly clock?: Clock
  readonly random?: Random
  readonly crash?: CrashPoints
}

/** Options of `transaction`. */
export interface TransactionOptions {
  /** How long `work` may take once the transaction is open, in milliseconds. Default 30 000. */
  readonly timeoutMs?: number
}

/** What a transaction runs. */
type TransactionWork<T> = (tx: SqliteTransaction) => Promise<T> | T

/** A database file with holdfast's one writer in front of it. */
export interface SqliteDatabase {
  /** Absolute path, symbolic links resolved. */
  readonly file: string
  /**
   * One transaction: BEGIN IMMEDIATE, `work`, COMMIT; resolves after the COMMIT, rolls back when
   * `work` throws or rejects, with that error. Transactions of a process queue for the file: keep them
   * short. Rejects with code `own-transaction` from inside another one, `storage-busy` when another
   * process keeps the lock longer than `busyMs`, `timeout` when `work` has not settled within
   * `timeoutMs`: it is rolled back then, and what `work` still does with `tx` is refused.
   */
  transaction<T>(work: TransactionWork<T>, options?: TransactionOptions): Promise<T>
  /** Ends with the transaction under way, which its `timeoutMs` ends at the latest. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Opens a file for the application's own tables, for use beside the outbox and inbox on the same file.
 * Rejects with a `StorageError` or an `OptionError`.
 */
export async function openDatabase(options: DatabaseOptions): Promise<SqliteDatabase> {
  const resolved = resolveFile('openDatabase', options, ['clock', 'random', 'crash'])
  const { clock = systemClock, random = systemRandom, crash = noCrashes } = options
  const deadline = clock.now() + resolved.busyMs
  const share = await shareFile(resolved, { clock, random, deadline })
  return new Database(share, resolved, clock, crash)
}

class Database implements SqliteDatabase {
  readonly file: string
  readonly #share: FileShare
  readonly #options: ResolvedFile
  readonly #clock: Clock
  readonly #crash: CrashPoints
  #open = true

  constructor(share: FileShare, options: ResolvedFile, clock: Clock, crash: CrashPoints) {
    this.file = share.file.path
    this.#share = share
    this.#options = options
    this.#clock = clock
    this.#crash = crash
  }

  async transaction<T>(work: TransactionWork<T>, given: TransactionOptions = {}): Promise<T> {
    if (!this.#open) throw new ClosedError('database')
    refuseUnknownOptions('transaction', given, ['timeoutMs'])
    const ms = integerOption('transaction.timeoutMs', given.timeoutMs, 30_000, { min: 1 })
    const { file } = this.#share
    const deadline = this.#clock.now() + this.#options.busyMs
    const options = {
      file,
      deadline,
      crash: this.#crash,
      what: 'transaction()',
      kind: 'own',
    } as const
    const bounded = (tx: SqliteTransaction): Promise<T> | T => this.#inTime(work(tx), ms)
    return transact(options, (db, shared) => within(new OpenTransaction(file, db, shared), bounded))
  }

  /** Everybody else in this process waits for the transaction, so it must end. */
  #inTime<T>(result: Promise<T> | T, ms: number): Promise<T> | T {
    if (typeof (result as PromiseLike<T> | null | undefined)?.then !== 'function') return result
    const what = `the work of transaction() on ${this.file}, which is rolled back,`
    return withDeadline(this.#clock, this.#clock.now() + ms, async () => result, what)
  }

  close(): Promise<void> {
    this.#open = false
    return this.#share.leave()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
