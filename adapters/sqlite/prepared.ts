import type { Connection, RunResult, SqlRow, SqlValue, Statement } from './driver.ts'

/** Texts made by users are many; holdfast's own are few and never thrown out. */
const MOST_EXACT = 256

/** A connection whose statements are prepared once each. */
export class Prepared {
  readonly #connection: Connection
  readonly #own = new Map<string, Statement>()
  readonly #exact = new Map<string, Statement>()

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** One of holdfast's own statements. */
  of(sql: string): Statement {
    let statement = this.#own.get(sql)
    if (statement === undefined) {
      statement = this.#connection.prepare(sql)
      this.#own.set(sql, statement)
    }
    return statement
  }

  /** A user's statement: every value survives the way in both directions. */
  exact(sql: string): Statement {
    let statement = this.#exact.get(sql)
    if (statement === undefined) {
      statement = this.#connection.prepare(sql, true)
      if (this.#exact.size >= MOST_EXACT) this.#exact.clear()
      this.#exact.set(sql, statement)
    }
    return statement
  }

  run(sql: string, ...params: readonly SqlValue[]): RunResult {
    return this.of(sql).run(...params)
  }

  get(sql: string, ...params: readonly SqlValue[]): SqlRow | undefined {
    return this.of(sql).get(...params)
  }

  all(sql: string, ...params: readonly SqlValue[]): SqlRow[] {
    return this.of(sql).all(...params)
  }

  exec(sql: string): void {
    this.#connection.exec(sql)
  }

  close(): void {
    this.#own.clear()
    this.#exact.clear()
    this.#connection.close()
  }
}
