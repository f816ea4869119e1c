import type { DatabaseSync, StatementSync } from 'node:sqlite'

import type { Connection, Driver, RunResult, SqlRow, SqlValue, Statement } from './driver.ts'
import { exactParams, exactResult, exactRow } from './values.ts'

/** Node's own driver, or `null` where this Node has none. */
export function nodeSqlite(): Driver | null {
  // Asked for by name at run time: an import would fail on Node 20 and trip bundlers.
  const library = process.getBuiltinModule('node:sqlite') as
    typeof import('node:sqlite') | undefined
  if (library === undefined || !hasIterate(library)) return null
  return {
    name: 'node:sqlite',
    connect: (file) => new NodeConnection(new library.DatabaseSync(file)),
  }
}

/** Came with 22.13, like the module without a flag. */
function hasIterate(library: typeof import('node:sqlite')): boolean {
  return 'iterate' in library.StatementSync.prototype
}

const CHANGED = 'SELECT changes() AS changes, last_insert_rowid() AS lastInsertRowid'

class NodeConnection implements Connection {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
    database.exec('PRAGMA busy_timeout = 0')
  }

  prepare(sql: string, exact = false): Statement {
    const statement = this.#database.prepare(sql)
    if (!exact) return statement as unknown as Statement
    statement.setReadBigInts(true)
    return new ExactStatement(statement, /\breturning\b/i.test(sql) ? this.#database : null)
  }

  exec(sql: string): void {
    this.#database.exec(sql)
  }

  close(): void {
    this.#database.close()
  }
}

class ExactStatement implements Statement {
  readonly #statement: StatementSync
  /** Where to ask what a statement with RETURNING changed: before Node 22.16 its run() does not know. */
  readonly #returning: DatabaseSync | null

  constructor(statement: StatementSync, returning: DatabaseSync | null) {
    this.#statement = statement
    this.#returning = returning
  }

  run(...params: readonly SqlValue[]): RunResult {
    if (this.#returning === null) return exactResult(this.#statement.run(...exactParams(params)))
    this.#statement.all(...exactParams(params))
    const changed = this.#returning.prepare(CHANGED)
    changed.setReadBigInts(true)
    return exactResult(changed.get() as unknown as RunResult)
  }

  get(...params: readonly SqlValue[]): SqlRow | undefined {
    const row = this.#statement.get(...exactParams(params)) as SqlRow | undefined
    return row && exactRow(row)
  }

  all(...params: readonly SqlValue[]): SqlRow[] {
    return (this.#statement.all(...exactParams(params)) as SqlRow[]).map(exactRow)
  }

  *iterate(...params: readonly SqlValue[]): Iterable<SqlRow> {
    for (const row of this.#statement.iterate(...exactParams(params))) yield exactRow(row)
  }
}
