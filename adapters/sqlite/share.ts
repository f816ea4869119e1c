import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { OptionError } from '../../src/contract/errors.ts'
import { loadDriver } from './driver.ts'
import { storageError, troubleOf } from './errors.ts'
import { SqliteFile } from './file.ts'
import type { ResolvedFile } from './options.ts'

/** One opener's part in a file this process has open. */
export interface FileShare {
  readonly file: SqliteFile
  /** Leaves; the last one closes the file. Idempotent. */
  leave(): Promise<void>
}

/** What waiting for a locked file needs. */
export interface Opening {
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal
  readonly deadline: Deadline
}

interface Entry {
  readonly opening: Promise<SqliteFile>
  users: number
}

const open = new Map<string, Entry>()

/**
 * Joins the file, opening it when nobody in this process has it open. Waits for a lock until the
 * deadline; rejects with a `StorageError`, or with `missing-package` when there is no driver.
 */
export async function shareFile(options: ResolvedFile, opening: Opening): Promise<FileShare> {
  const path = realPath(options.file)
  const entry = open.get(path) ?? { opening: openPatiently(path, options, opening), users: 0 }
  open.set(path, entry)
  entry.users++
  const leave = once(() => leaveFile(path, entry))
  try {
    const file = await entry.opening
    checkDriver(file, options)
    return { file, leave }
  } catch (error) {
    await leave()
    throw error
  }
}

async function leaveFile(path: string, entry: Entry): Promise<void> {
  if (--entry.users > 0) return
  if (open.get(path) === entry) open.delete(path)
  const file = await entry.opening.catch(() => null)
  await file?.close()
}

async function openPatiently(
  path: string,
  options: ResolvedFile,
  { clock, random, signal, deadline }: Opening,
): Promise<SqliteFile> {
  const driver = await loadDriver(options.driver)
  for (;;) {
    signal?.throwIfAborted()
    try {
      return SqliteFile.open({ path, driver, clock, random })
    } catch (error) {
      const busy = troubleOf((error as Error).cause) === 'busy'
      if (!busy || clock.now() >= deadline) throw error
    }
    await sleep(clock, 2 + random.next() * 20, signal)
  }
}

/** Whether the file has this real path. Never throws: a file that cannot be reached has none. */
export function isSameFile(path: string, file: string): boolean {
  try {
    return path === realPath(file)
  } catch {
    return false
  }
}

/** Two spellings of one path are one file, whose writer there must be only one of. */
function realPath(file: string): string {
  try {
    if (existsSync(file)) return realpathSync(file)
    return join(realpathSync(dirname(file)), basename(file))
  } catch (error) {
    const cannotOpen = Object.assign(new Error((error as Error).message), {
      code: 'SQLITE_CANTOPEN',
    })
    throw storageError(cannotOpen, file, 'opening')
  }
}

function checkDriver(file: SqliteFile, { driver }: ResolvedFile): void {
  if (driver === 'auto' || driver === file.driver.name) return
  throw new OptionError('driver', driver, `'${file.driver.name}', with which this file is open`)
}

function once(work: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | null = null
  return () => (result ??= work())
}
