import type { Deadline } from '../../src/contract/broker.ts'
import { HoldfastError, StorageError } from '../../src/contract/errors.ts'
import { createStatements, type Table } from '../sql/schema.ts'
import { dialect } from './dialect.ts'
import { storageError } from './errors.ts'
import type { SqliteFile } from './file.ts'
import { insideTransactionOn } from './own-transaction.ts'
import type { Prepared } from './prepared.ts'

/** A group of tables that is made, and versioned, together. */
export interface SchemaPart {
  readonly name: 'broker' | 'outbox' | 'inbox'
  readonly version: number
  readonly tables: readonly Table[]
}

/**
 * Makes the part's tables where they are missing, or with mode 'verify' rejects with code `topology`
 * when they are. Rejects too when a later version of holdfast has written them.
 */
export async function ensureSchema(
  file: SqliteFile,
  part: SchemaPart,
  mode: 'create' | 'verify',
  deadline: Deadline,
): Promise<void> {
  if (checked(file.path, part, readVersion(file, part.name))) return
  if (mode === 'verify') {
    throw new HoldfastError(
      'topology',
      `${file.path} has no ${part.name} tables of holdfast: open it once with schema: 'create', or run the statements in its documentation`,
    )
  }
  refuseInsideTransaction(file, part.name)
  await file.writer.write(deadline, (db) => {
    // Somebody else may have made them since.
    if (checked(file.path, part, versionOf(db, part.name))) return
    for (const table of part.tables) {
      for (const sql of createStatements(table, dialect)) db.exec(sql)
    }
    setMeta(db, `${part.name}.version`, part.version)
  })
}

/** Throws at once where making tables would wait for a transaction of the caller's, which waits for them. */
export function refuseInsideTransaction(file: SqliteFile, part: SchemaPart['name']): void {
  if (!insideTransactionOn(file.path)) return
  throw new HoldfastError(
    'own-transaction',
    `the ${part} is not in ${file.path} yet and cannot be made from inside a transaction on that file: open it before, with await publisher.open() or by starting the relay or consumer`,
  )
}

/** A number kept in the file; `null` when it is not there. */
export function metaOf(db: Prepared, name: string): number | null {
  const row = db.get('SELECT value FROM holdfast_meta WHERE name = ?', name)
  return row === undefined ? null : (row['value'] as number)
}

/** Keeps a number in the file. */
export function setMeta(db: Prepared, name: string, value: number): void {
  db.run(
    'INSERT INTO holdfast_meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
    name,
    value,
  )
}

function readVersion(file: SqliteFile, name: string): number | null {
  try {
    return versionOf(file.reader, name)
  } catch (error) {
    throw storageError(error, file.path, 'reading the schema')
  }
}

function versionOf(db: Prepared, name: string): number | null {
  const exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'holdfast_meta'"
  return db.get(exists) === undefined ? null : metaOf(db, `${name}.version`)
}

/** True when the part is there as this version knows it. */
function checked(path: string, part: SchemaPart, found: number | null): boolean {
  if (found === null) return false
  if (found <= part.version) return true
  throw new StorageError(
    'storage',
    `${path} has ${part.name} tables of version ${found}, this holdfast knows ${part.version}: update holdfast in this process`,
  )
}
