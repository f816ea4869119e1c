import { systemClock, systemRandom, type Clock, type Random } from '../../src/contract/clock.ts'
import { noCrashes, type CrashPoints } from '../../src/contract/crash-points.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { resolveFile, type FileOptions, type ResolvedFile } from './options.ts'
import { shareFile, type FileShare } from './share.ts'
import { OpenTransaction, transact, within, type SqliteTransaction } from './transaction.ts'

/** Options of `openDatabase`. */
export interface DatabaseOptions extends FileOptions {
  readonly clock?: Clock
  readonly random?: Random
  readonly crash?: CrashPoints
}

/** A database file with holdfast's one writer in front of it. */
export interface SqliteDatabase {
  /** Absolute path, symbolic links resolved. */
  readonly file: string
  /**
   * One transaction: BEGIN IMMEDIATE, `work`, COMMIT; resolves after the COMMIT, rolls back when
   * `work` throws or rejects, with that error. Transactions of a process queue for the file: keep them
   * short. Rejects with code `own-transaction` from inside another one, `storage-busy` when another
   * process keeps the lock longer than `busyMs`.
   */
  transaction<T>(work: (tx: SqliteTransaction) => Promise<T> | T): Promise<T>
  /** Ends with the transactions under way. Idempotent. */
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

  async transaction<T>(work: (tx: SqliteTransaction) => Promise<T> | T): Promise<T> {
    if (!this.#open) throw new ClosedError('database')
    const { file } = this.#share
    const deadline = this.#clock.now() + this.#options.busyMs
    const options = {
      file,
      deadline,
      crash: this.#crash,
      what: 'transaction()',
      kind: 'own',
    } as const
    return transact(options, (db, shared) => within(new OpenTransaction(file, db, shared), work))
  }

  close(): Promise<void> {
    this.#open = false
    return this.#share.leave()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
