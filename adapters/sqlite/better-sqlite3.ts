import type BetterSqlite3 from 'better-sqlite3'

import { HoldfastError } from '../../src/contract/errors.ts'
import type { Connection, Driver, RunResult, SqlRow, SqlValue, Statement } from './driver.ts'
import { exactParams, exactResult, exactRow } from './values.ts'

type Library = typeof BetterSqlite3
type Raw = BetterSqlite3.Statement<SqlValue[], SqlRow>

/** The package better-sqlite3, loaded on first use. */
export async function betterSqlite3(): Promise<Driver> {
  const library = await load()
  return { name: 'better-sqlite3', connect: (file) => new BetterConnection(open(library, file)) }
}

async function load(): Promise<Library> {
  try {
    return (await import('better-sqlite3')).default
  } catch (cause) {
    throw new HoldfastError(
      'missing-package',
      `SQLite needs the package better-sqlite3 on Node ${process.versions.node}: run 'npm install better-sqlite3', or use Node 22.13 or newer, which has a driver of its own`,
      { cause },
    )
  }
}

function open(library: Library, file: string): BetterSqlite3.Database {
  try {
    return new library(file, { timeout: 0 })
  } catch (cause) {
    // The native part is loaded by the first connection, not by the import.
    if (!/bindings file|NODE_MODULE_VERSION|\.node/.test((cause as Error).message)) throw cause
    throw new HoldfastError(
      'missing-package',
      `the package better-sqlite3 is there, but its native part is not, or is for another Node than ${process.versions.node}: run 'npm rebuild better-sqlite3' (or 'npm install better-sqlite3')`,
      { cause },
    )
  }
}

class BetterConnection implements Connection {
  readonly #database: BetterSqlite3.Database

  constructor(database: BetterSqlite3.Database) {
    this.#database = database
  }

  prepare(sql: string, exact = false): Statement {
    const statement = this.#database.prepare<SqlValue[], SqlRow>(sql)
    if (!exact) return statement
    return new ExactStatement(statement.safeIntegers(true), this.#database)
  }

  exec(sql: string): void {
    this.#database.exec(sql)
  }

  close(): void {
    this.#database.close()
  }
}

/** Evens out that this driver wants to know beforehand whether a statement returns rows. */
class ExactStatement implements Statement {
  readonly #statement: Raw
  readonly #database: BetterSqlite3.Database

  constructor(statement: Raw, database: BetterSqlite3.Database) {
    this.#statement = statement
    this.#database = database
  }

  run(...params: readonly SqlValue[]): RunResult {
    if (!this.#statement.reader) return exactResult(this.#statement.run(...exactParams(params)))
    this.#statement.all(...exactParams(params))
    const changed = 'SELECT changes() AS changes, last_insert_rowid() AS lastInsertRowid'
    return exactResult(
      this.#database.prepare<[], RunResult>(changed).safeIntegers(true).get() as RunResult,
    )
  }

  get(...params: readonly SqlValue[]): SqlRow | undefined {
    if (!this.#statement.reader) return void this.#statement.run(...exactParams(params))
    const row = this.#statement.get(...exactParams(params))
    return row && exactRow(row)
  }

  all(...params: readonly SqlValue[]): SqlRow[] {
    if (this.#statement.reader) return this.#statement.all(...exactParams(params)).map(exactRow)
    this.#statement.run(...exactParams(params))
    return []
  }

  *iterate(...params: readonly SqlValue[]): Iterable<SqlRow> {
    for (const row of this.#statement.iterate(...exactParams(params))) yield exactRow(row)
  }
}
