import { OptionError } from '../../src/contract/errors.ts'
import { plainBytes, storedBytes } from '../sql/envelope.ts'
import type { RunResult, SqlRow, SqlValue } from './driver.ts'

const LARGEST = 2n ** 63n - 1n
const SMALLEST = -(2n ** 63n)

/**
 * Parameters as every driver takes them alike: whole numbers as integers (one driver binds all
 * numbers as REAL, the other those beyond 32 bits), and an `OptionError` for what SQLite has no type
 * for, instead of two different driver errors.
 */
export function exactParams(params: readonly SqlValue[]): SqlValue[] {
  return params.map((value, index) => {
    if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value
    if (value instanceof Uint8Array) return storedBytes(value)
    if (typeof value === 'string' || value === null) return value
    if (typeof value === 'bigint' && value <= LARGEST && value >= SMALLEST) return value
    const allowed = 'null, a string, a number, a bigint of 64 bits, a Uint8Array'
    throw new OptionError(`SQL parameter ${index + 1}`, value, allowed)
  })
}

/** A row read with bigints: whole numbers are numbers where that is exact, blobs plain `Uint8Array`. */
export function exactRow(row: SqlRow): SqlRow {
  const exact: SqlRow = {}
  for (const name of Object.keys(row)) exact[name] = exactValue(row[name] as SqlValue)
  return exact
}

/** As `exactRow`, for what a statement changed. */
export function exactResult(result: {
  readonly changes: number | bigint
  readonly lastInsertRowid: number | bigint
}): RunResult {
  return {
    changes: Number(result.changes),
    lastInsertRowid: exactValue(result.lastInsertRowid) as number | bigint,
  }
}

function exactValue(value: SqlValue): SqlValue {
  if (typeof value === 'bigint') {
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : value
  }
  return value instanceof Uint8Array ? plainBytes(value) : value
}
