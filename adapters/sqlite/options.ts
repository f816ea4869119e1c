import { isAbsolute, resolve } from 'node:path'

import { OptionError } from '../../src/contract/errors.ts'
import { choiceOption, integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'
import type { DriverName } from './driver.ts'

/** What broker, outbox, inbox and `openDatabase` have in common. */
export interface FileOptions {
  /** Path of the database file; made when it does not exist. Its folder has to exist. */
  readonly file: string
  /** Default 'auto': `node:sqlite` from Node 22.13 on, else better-sqlite3. */
  readonly driver?: DriverName | 'auto'
  /** How long another process may keep the file locked before an error says so. Default 5 000, at least 100. */
  readonly busyMs?: number
  /** 'create' makes missing tables, 'verify' only looks for them. Default 'create'. */
  readonly schema?: 'create' | 'verify'
}

/** The common options with their defaults. */
export interface ResolvedFile {
  readonly file: string
  readonly driver: DriverName | 'auto'
  readonly busyMs: number
  readonly schema: 'create' | 'verify'
}

const common = ['file', 'driver', 'busyMs', 'schema'] as const

/** Checks the common options, and that no name beside `more` is given; throws an `OptionError`. */
export function resolveFile(
  what: string,
  given: FileOptions,
  more: readonly string[] = [],
): ResolvedFile {
  refuseUnknownOptions(what, given, [...common, ...more])
  return {
    file: checkedPath(given.file),
    driver: choiceOption('driver', given.driver, 'auto', ['auto', 'node:sqlite', 'better-sqlite3']),
    busyMs: integerOption('busyMs', given.busyMs, 5_000, { min: 100 }),
    schema: choiceOption('schema', given.schema, 'create', ['create', 'verify']),
  }
}

function checkedPath(file: unknown): string {
  const allowed = 'the path of a file (several connections share it, so not ":memory:" or a URL)'
  if (typeof file !== 'string' || file === '' || file.includes('\0')) {
    throw new OptionError('file', file, allowed)
  }
  if (file.startsWith(':') || file.startsWith('file:')) throw new OptionError('file', file, allowed)
  return isAbsolute(file) ? file : resolve(file)
}
