import {
  HoldfastError,
  isHoldfastError,
  StorageError,
  type ErrorCode,
} from '../../src/contract/errors.ts'

/** What SQLite said, as far as it makes a difference here. */
export type Trouble =
  'busy' | 'read-only' | 'full' | 'corrupt' | 'input-output' | 'cannot-open' | 'other'

/** Primary result codes; extended ones carry more in the upper bits. */
const byCode: Readonly<Record<number, Trouble>> = {
  5: 'busy',
  6: 'busy',
  8: 'read-only',
  10: 'input-output',
  11: 'corrupt',
  13: 'full',
  14: 'cannot-open',
  26: 'corrupt',
}

const byName: readonly (readonly [prefix: string, trouble: Trouble])[] = [
  ['SQLITE_BUSY', 'busy'],
  ['SQLITE_LOCKED', 'busy'],
  ['SQLITE_READONLY', 'read-only'],
  ['SQLITE_IOERR', 'input-output'],
  ['SQLITE_CORRUPT', 'corrupt'],
  ['SQLITE_FULL', 'full'],
  ['SQLITE_CANTOPEN', 'cannot-open'],
  ['SQLITE_NOTADB', 'corrupt'],
]

/** What kind of trouble a driver's error means; `null` when it is not one of SQLite's. */
export function troubleOf(error: unknown): Trouble | null {
  if (typeof error !== 'object' || error === null) return null
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  if (typeof errcode === 'number') return byCode[errcode & 0xff] ?? 'other'
  if (typeof code !== 'string' || !code.startsWith('SQLITE_')) return null
  return byName.find(([prefix]) => code.startsWith(prefix))?.[1] ?? 'other'
}

/** SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH. */
const valueCodes: ReadonlySet<number> = new Set([18, 19, 20])
const valueNames = ['SQLITE_TOOBIG', 'SQLITE_CONSTRAINT', 'SQLITE_MISMATCH'] as const

/**
 * The values of one statement are what SQLite or its driver does not take. Everything else (a damaged
 * file, a missing table) would refuse other values just as well.
 */
export function isAboutValues(error: unknown): boolean {
  if (isHoldfastError(error)) return error.cause !== undefined && isAboutValues(error.cause)
  if (troubleOf(error) === null) return true
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  if (typeof errcode === 'number') return valueCodes.has(errcode & 0xff)
  return valueNames.some((name) => String(code).startsWith(name))
}

/** SQLite rolls the whole transaction back by itself after these, or nothing more can be trusted in it. */
export function endsTransaction(trouble: Trouble | null): boolean {
  return trouble !== null && trouble !== 'other'
}

interface Report {
  readonly code: ErrorCode
  /** Waiting may help. */
  readonly transient: boolean
  readonly text: (file: string) => string
}

const reports: Readonly<Record<Trouble, Report>> = {
  busy: {
    code: 'storage-busy',
    transient: true,
    text: (file) => `${file} is locked by another process; try again later`,
  },
  'read-only': {
    code: 'storage-read-only',
    transient: false,
    text: (file) =>
      `${file} cannot be written: give this process write access to it and its folder, in which SQLite keeps the "-wal" and "-shm" files`,
  },
  full: {
    code: 'storage-full',
    transient: true,
    text: (file) =>
      `no room left for ${file}: free space on its disk, or raise its max_page_count or quota`,
  },
  corrupt: {
    code: 'storage-corrupt',
    transient: false,
    text: (file) =>
      `${file} is damaged or not a SQLite database: keep a copy, run "PRAGMA integrity_check", restore or recover it`,
  },
  'input-output': {
    code: 'storage',
    transient: true,
    text: (file) => `the disk under ${file} reports errors: look at the system's log`,
  },
  'cannot-open': {
    code: 'storage',
    transient: false,
    text: (file) =>
      `${file} cannot be opened: its folder has to exist and to be writable by this process`,
  },
  other: {
    code: 'storage',
    transient: false,
    text: (file) => `SQLite refused a statement on ${file}`,
  },
}

/** The named error for a driver's error; errors that are holdfast's or the user's own come back as they are. */
export function storageError(error: unknown, file: string, doing: string): Error {
  const trouble = troubleOf(error)
  if (trouble === null) return error instanceof Error ? error : new Error(String(error))
  const { code, transient, text } = reports[trouble]
  const said = (error as Error).message
  return new StorageError(code, `${doing}: ${text(file)} (SQLite: ${said})`, {
    cause: error,
    transient,
  })
}

/** The named error for a COMMIT that failed: with an I/O error the transaction may be on disk or not. */
export function commitError(error: unknown, file: string): Error {
  if (troubleOf(error) !== 'input-output') return storageError(error, file, 'committing')
  const text = `the disk failed while a transaction on ${file} was committed: it may be stored or not`
  return new StorageError('commit-unknown', text, { cause: error, transient: true })
}

/** Nobody could write for that long. */
export function busyError(file: string, forMs: number, holder: 'process' | 'here'): StorageError {
  const who =
    holder === 'here'
      ? 'a transaction of this process, which has not ended,'
      : 'another process, or a transaction held open by it,'
  return new StorageError(
    'storage-busy',
    `${file} was locked for ${Math.round(forMs)} ms by ${who} and nothing was written; keep transactions short, or raise busyMs`,
    { transient: true },
  )
}

/** Somebody inside a transaction of this file asked for what only another transaction could do. */
export function ownTransactionError(what: string, file: string): HoldfastError {
  return new HoldfastError(
    'own-transaction',
    `${what} from inside a transaction on ${file}: it would wait for that transaction, which waits for it; use the transaction you have: in a handler context.tx and context.publish, with a sqliteOutbox on this file as the consumer's outbox; elsewhere publishIn(tx, …)`,
  )
}
