import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { filesystemOf } from './machine.ts'

/** A directory for databases that is removed afterwards. */
export interface Scratch {
  readonly path: string
  remove(): void
}

const inMemory = new Set(['tmpfs', 'ramfs'])

/**
 * Makes a directory on a real disk, under `parent` or in the working directory's `reports/`. Throws
 * on a file system in memory, where a commit costs nothing and every figure would flatter.
 */
export function scratchDirectory(parent: string | undefined): Scratch {
  const within = resolve(parent ?? 'reports')
  mkdirSync(within, { recursive: true })
  const kind = filesystemOf(within)
  if (inMemory.has(kind)) {
    throw new Error(`${within} is on ${kind}, in memory: name a directory on a disk with --dir`)
  }
  const path = mkdtempSync(join(within, 'bench-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}
