import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

/** What a config says of a store that it chooses by name. */
export interface ChosenStore {
  readonly use: string
  readonly [option: string]: unknown
}

/**
 * Whether both are stores in one database, so that they can share a transaction: the same file however
 * its path is spelt, the same database object, the same URL. Two that name none have one each.
 */
export function isSameDatabase(one: ChosenStore, other: ChosenStore): boolean {
  if (one.use !== other.use) return false
  const places = [one, other].map(({ file, database, url }) => [placeOf(file), database, url])
  const [here = [], there = []] = places
  return here.some((part) => part !== undefined) && here.every((part, at) => part === there[at])
}

function placeOf(file: unknown): unknown {
  return typeof file === 'string' ? realPathOf(file) : file
}

/** Absolute and without symbolic links. Never throws: opening a path that leads nowhere says so itself. */
function realPathOf(file: string): string {
  const path = resolve(file)
  try {
    if (existsSync(path)) return realpathSync(path)
    return join(realpathSync(dirname(path)), basename(path))
  } catch {
    return path
  }
}
