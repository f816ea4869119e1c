import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { loadDriver, type Connection, type SqlRow } from '../../../adapters/sqlite/driver.ts'
import { TABLES } from './tables.ts'
import type { Paths } from './task.ts'

const PATIENCE_MS = 10_000

/** One file for everything, or the broker in one of its own. */
export type Layout = 'one file' | 'two files'

/** A folder for a run. */
export function newFolder(layout: Layout): Paths & { readonly folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-process-'))
  const app = join(folder, 'app.db')
  return {
    folder,
    app,
    broker: layout === 'one file' ? app : join(folder, 'broker.db'),
    history: join(folder, 'history.jsonl'),
  }
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
}

/** A connection of the driver's own, without the library. */
export async function connect(file: string): Promise<Connection> {
  const connection = (await loadDriver('auto')).connect(file)
  connection.exec(`PRAGMA busy_timeout = ${PATIENCE_MS}`)
  return connection
}

/** Makes the application's tables. */
export async function makeTables({ app }: Paths): Promise<void> {
  const connection = await connect(app)
  connection.exec('PRAGMA journal_mode = WAL')
  connection.exec(TABLES)
  connection.close()
}

/** Rows, or none while the library has not made the table yet. */
export function rows(connection: Connection, sql: string, ...params: string[]): SqlRow[] {
  try {
    return connection.prepare(sql).all(...params)
  } catch (error) {
    if (/no such table/.test((error as Error).message)) return []
    throw error
  }
}

/** Bytes of the file's write-ahead log. */
export function walBytes(file: string): number {
  const log = `${file}-wal`
  return existsSync(log) ? (statSync(log, { throwIfNoEntry: false })?.size ?? 0) : 0
}
