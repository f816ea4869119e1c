import { realpathSync } from 'node:fs'

import { HoldfastError } from '../../src/contract/errors.ts'
import type { SqlValue } from './driver.ts'
import type { SqliteFile } from './file.ts'
import { OpenTransaction } from './transaction.ts'

/** The part of a statement that appending needs; those of both drivers fit. */
interface UserStatement {
  run(...params: readonly SqlValue[]): unknown
  get(...params: readonly SqlValue[]): unknown
}

/** The part of the user's own connection that appending needs; better-sqlite3's and node:sqlite's fit. */
export interface UserConnection {
  prepare(sql: string): UserStatement
  exec(sql: string): unknown
  /** better-sqlite3 */
  readonly inTransaction?: boolean
  /** node:sqlite from 22.16 on */
  readonly isTransaction?: boolean
}

/** Where rows can be appended: statements by their text, inside an open transaction. */
export interface Appender {
  of(sql: string): { run(...params: readonly SqlValue[]): unknown }
}

/** Statements of a user's connection, prepared once for as long as the connection lives. */
class UserAppender implements Appender {
  readonly #connection: UserConnection
  readonly #statements = new Map<string, UserStatement>()
  #path: string | null = null

  constructor(connection: UserConnection) {
    this.#connection = connection
  }

  of(sql: string): UserStatement {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#connection.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  check({ path }: SqliteFile): void {
    this.#path ??= this.#mainFile()
    if (this.#path !== path) {
      const text = `the transaction is on ${this.#path || 'a database without a file'}, the outbox in ${path}: only on one file they commit together`
      throw new HoldfastError('not-a-transaction', text)
    }
    if (!this.#isOpen()) {
      const text =
        'the connection has no open transaction: run BEGIN IMMEDIATE first (with better-sqlite3: db.transaction(…).immediate()), append, then COMMIT'
      throw new HoldfastError('not-a-transaction', text)
    }
    const synchronous = Number(this.#pragma('PRAGMA synchronous', 0))
    if (synchronous < 2) {
      const text = `the connection has PRAGMA synchronous = ${synchronous}: a power loss would take committed rows with it; run PRAGMA synchronous = FULL on it, outside of transactions`
      throw new HoldfastError('option', text)
    }
  }

  #isOpen(): boolean {
    const { inTransaction, isTransaction } = this.#connection
    const known = inTransaction ?? isTransaction
    if (known !== undefined) return known
    try {
      this.#connection.exec('BEGIN')
    } catch {
      // It cannot begin because one is open: there is no other way to ask before Node 22.16.
      return true
    }
    this.#connection.exec('ROLLBACK')
    return false
  }

  #mainFile(): string {
    const file = String(
      this.#pragma("SELECT file FROM pragma_database_list WHERE name = 'main'", 0),
    )
    return file === '' || file === 'null' ? '' : realpathSync(file)
  }

  /** Works for rows as objects and as arrays. */
  #pragma(sql: string, column: number): unknown {
    return Object.values(this.of(sql).get() as object)[column]
  }
}

const known = new WeakMap<object, UserAppender>()

/**
 * Where to append for this handle: a `SqliteTransaction`, or a connection of better-sqlite3 or
 * node:sqlite with an open transaction on the file. Throws with code `not-a-transaction` for anything
 * else, `option` for a connection that does not survive a power loss.
 */
export function appenderOf(handle: unknown, file: SqliteFile): Appender {
  if (handle instanceof OpenTransaction) {
    if (handle.file === file) return handle.appending()
    const text = `the transaction is on ${handle.file.path}, the outbox in ${file.path}: only on one file they commit together`
    throw new HoldfastError('not-a-transaction', text)
  }
  if (!isConnection(handle)) {
    const text =
      'publishIn needs a transaction: the tx of openDatabase().transaction(), context.tx, or a connection of better-sqlite3 or node:sqlite with an open transaction'
    throw new HoldfastError('not-a-transaction', text)
  }
  const appender = known.get(handle) ?? new UserAppender(handle)
  known.set(handle, appender)
  appender.check(file)
  return appender
}

/** The connection of better-sqlite3 as a transaction handle; checked when rows are appended. */
export function fromBetterSqlite3(connection: UserConnection): UserConnection {
  return connection
}

/** The connection of node:sqlite as a transaction handle; checked when rows are appended. */
export function fromNodeSqlite(connection: UserConnection): UserConnection {
  return connection
}

function isConnection(handle: unknown): handle is UserConnection {
  if (typeof handle !== 'object' || handle === null) return false
  const { prepare, exec } = handle as Partial<UserConnection>
  return typeof prepare === 'function' && typeof exec === 'function'
}
