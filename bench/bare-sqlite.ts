import { createRequire, isBuiltin } from 'node:module'

import type { Contender } from './measure.ts'

/** The little of an SQLite driver that both drivers have in common. */
interface BareDatabase {
  exec(sql: string): void
  prepare(sql: string): { run(...values: readonly (string | Uint8Array)[]): unknown }
  close(): void
}

type BareDatabaseClass = new (file: string) => BareDatabase

const require = createRequire(import.meta.url)

/** The driver that holdfast uses on this Node, without holdfast. */
function bareDriver(): BareDatabaseClass {
  if (!isBuiltin('node:sqlite')) return require('better-sqlite3') as BareDatabaseClass
  return (require('node:sqlite') as { DatabaseSync: BareDatabaseClass }).DatabaseSync
}

function openBare(file: string): BareDatabase {
  const database = new (bareDriver())(file)
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = FULL')
  database.exec(
    'CREATE TABLE IF NOT EXISTS bare (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body BLOB NOT NULL)',
  )
  return database
}

/** A row as the bare driver inserts it, made before the clock starts. */
export interface BareRow {
  readonly id: string
  readonly body: Uint8Array
}

/** Prepared inserts in transactions of `perTransaction` rows: the most this driver and disk can do. */
export function bareInserts(
  rows: readonly BareRow[],
  perTransaction: number,
  file: () => string,
): Contender {
  return {
    name: `bare inserts, ${perTransaction} a transaction`,
    durability: 'WAL, synchronous=FULL',
    messages: rows.length,
    prepare: async () => {
      const database = openBare(file())
      return {
        run: async () => insertAll(database, rows, perTransaction),
        close: async () => database.close(),
      }
    },
  }
}

function insertAll(database: BareDatabase, rows: readonly BareRow[], perTransaction: number): void {
  const insert = database.prepare('INSERT INTO bare (id, body) VALUES (?, ?)')
  for (let from = 0; from < rows.length; from += perTransaction) {
    database.exec('BEGIN IMMEDIATE')
    for (const { id, body } of rows.slice(from, from + perTransaction)) insert.run(id, body)
    database.exec('COMMIT')
  }
}
