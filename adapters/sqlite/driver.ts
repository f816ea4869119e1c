import { HoldfastError } from '../../src/contract/errors.ts'
import { betterSqlite3 } from './better-sqlite3.ts'
import { nodeSqlite } from './node-sqlite.ts'

/** What a column can hold and a parameter can be. */
export type SqlValue = null | number | bigint | string | Uint8Array

/** A row by column name. */
export type SqlRow = Record<string, SqlValue>

/** What a statement changed. */
export interface RunResult {
  readonly changes: number
  /** A number where it is exact, else a bigint. */
  readonly lastInsertRowid: number | bigint
}

/** A statement prepared once; parameters are positional. Every method may throw the driver's error. */
export interface Statement {
  run(...params: readonly SqlValue[]): RunResult
  get(...params: readonly SqlValue[]): SqlRow | undefined
  all(...params: readonly SqlValue[]): SqlRow[]
  /** Steps row by row, so that a reader can stop at a bound; nothing else may run on the connection meanwhile. */
  iterate(...params: readonly SqlValue[]): Iterable<SqlRow>
}

/**
 * A connection: three methods, so that any synchronous driver fits. `prepare` is for holdfast's own
 * statements, whose numbers are exact in a JavaScript number; with `exact` every value survives the
 * way in both directions (see values.ts).
 */
export interface Connection {
  prepare(sql: string, exact?: boolean): Statement
  exec(sql: string): void
  close(): void
}

/** How holdfast reaches SQLite. */
export type DriverName = 'node:sqlite' | 'better-sqlite3'

/** Opens connections that never wait for a lock by themselves. */
export interface Driver {
  readonly name: DriverName
  connect(file: string): Connection
}

/**
 * The driver asked for, or the one this Node has: `node:sqlite` from 22.13 on, else the package
 * better-sqlite3, loaded here and nowhere else. Rejects with code `missing-package` and the command
 * that installs it.
 */
export async function loadDriver(wanted: DriverName | 'auto'): Promise<Driver> {
  if (wanted !== 'better-sqlite3') {
    const driver = nodeSqlite()
    if (driver !== null) return driver
    if (wanted === 'node:sqlite') {
      throw new HoldfastError(
        'missing-package',
        `driver 'node:sqlite' needs Node 22.13 or newer, this is ${process.version}: use a newer Node, or driver 'better-sqlite3' after 'npm install better-sqlite3'`,
      )
    }
  }
  return betterSqlite3()
}
