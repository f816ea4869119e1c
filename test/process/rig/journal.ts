import { closeSync, openSync, writeSync } from 'node:fs'

import type { Entry, Facts, Operation, Phase } from '../../conformance/checker/history.ts'

/** Name of the run in every line. */
export const RUN = 'process'

/**
 * A process's part of the history: one write per line to a file opened for appending, so that a
 * SIGKILL at any moment leaves whole lines of everything that happened before.
 */
export class Journal {
  readonly proc: string
  readonly #file: number
  #seq = 0

  constructor(path: string, proc: string) {
    this.proc = proc
    this.#file = openSync(path, 'a')
  }

  write(op: Operation, phase: Phase, facts: Facts = {}): void {
    const { proc } = this
    const times = { t_mono: now(), t_wall: Date.now() }
    const entry: Entry = {
      run: RUN,
      proc,
      pid: process.pid,
      seq: this.#seq++,
      ...times,
      op,
      phase,
      ...facts,
    }
    writeSync(this.#file, `${JSON.stringify(entry)}\n`)
  }

  /** The place of a line that stands elsewhere: in a database row, which is true only if it is committed. */
  reserve(): { readonly seq: number; readonly at: number } {
    return { seq: this.#seq++, at: now() }
  }

  close(): void {
    closeSync(this.#file)
  }
}

/** Nanoseconds of the clock all processes of the machine share. */
function now(): number {
  return Number(process.hrtime.bigint())
}
