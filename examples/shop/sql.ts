import { isBuiltin } from 'node:module'

/** A row as the driver gives it. */
export type Row = Readonly<Record<string, unknown>>

/** An SQLite file opened by the driver alone, without the library under test. */
export interface PlainDatabase {
  all(sql: string, ...values: readonly (string | number)[]): readonly Row[]
  exec(sql: string): void
  close(): void
}

/** How to open. */
export interface PlainOptions {
  readonly readOnly: boolean
  /** How long a statement waits for another process's lock, in milliseconds. */
  readonly busyMs: number
}

/** Opens with node:sqlite where this Node has it, else with better-sqlite3. */
export async function openPlain(file: string, options: PlainOptions): Promise<PlainDatabase> {
  return isBuiltin('node:sqlite') ? openWithNode(file, options) : openWithBetter(file, options)
}

async function openWithNode(file: string, options: PlainOptions): Promise<PlainDatabase> {
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(file, { readOnly: options.readOnly })
  database.exec(`PRAGMA busy_timeout = ${options.busyMs}`)
  return {
    all: (sql, ...values) => database.prepare(sql).all(...values),
    exec: (sql) => database.exec(sql),
    close: () => database.close(),
  }
}

async function openWithBetter(file: string, options: PlainOptions): Promise<PlainDatabase> {
  const { default: Database } = await import('better-sqlite3')
  const database = new Database(file, { readonly: options.readOnly, timeout: options.busyMs })
  return {
    all: (sql, ...values) => database.prepare<unknown[], Row>(sql).all(...values),
    exec: (sql) => void database.exec(sql),
    close: () => void database.close(),
  }
}

/** The first column of the first row, as a number. */
export function count(database: PlainDatabase, sql: string): number {
  const [row] = database.all(sql)
  return Number(Object.values(row ?? {})[0] ?? 0)
}
