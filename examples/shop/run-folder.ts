import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { UsageError } from './usage.ts'

/** The folder of a run: its databases, histories and logs. */
export class RunFolder {
  readonly path: string
  #temporary: boolean

  /** The folder given, which has to be new or empty, or a fresh temporary one. */
  constructor(given: string | null, keep: boolean) {
    this.path = given === null ? mkdtempSync(join(tmpdir(), 'holdfast-shop-')) : fresh(given)
    this.#temporary = given === null && !keep
  }

  /** Leaves it in place after all, for somebody to look at. */
  keep(): void {
    this.#temporary = false
  }

  /** Removes it, unless it was asked for. */
  remove(): void {
    // A process that was just killed may still be leaving it.
    const retry = { maxRetries: 5, retryDelay: 100 }
    if (this.#temporary) rmSync(this.path, { recursive: true, force: true, ...retry })
  }
}

function fresh(given: string): string {
  const path = resolve(given)
  try {
    mkdirSync(path, { recursive: true })
    if (readdirSync(path).length === 0) return path
  } catch (error) {
    throw new UsageError(`--dir ${given}: ${(error as Error).message}`, { cause: error })
  }
  throw new UsageError(`--dir ${given}: holds files already; give a new or an empty folder`)
}
