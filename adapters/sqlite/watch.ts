import type { Clock } from '../../src/contract/clock.ts'
import { Alarm } from './alarm.ts'
import type { SqliteFile } from './file.ts'

/**
 * Calls back after commits of other connections, found by asking every `pollMs`: SQLite tells nobody.
 * A hint only; reading a number of the WAL's index costs microseconds and opens no transaction.
 */
export class Watch {
  readonly #file: SqliteFile
  readonly #clock: Clock
  readonly #pollMs: number
  readonly #onChange: () => void
  readonly #alarm: Alarm
  #seen = -1

  constructor(file: SqliteFile, clock: Clock, pollMs: number, onChange: () => void) {
    this.#file = file
    this.#clock = clock
    this.#pollMs = pollMs
    this.#onChange = onChange
    this.#alarm = new Alarm(clock, () => this.#poll())
    this.#next()
  }

  stop(): void {
    this.#alarm.cancel()
  }

  #poll(): void {
    this.#next()
    const version = this.#version()
    if (version === this.#seen) return
    this.#seen = version
    this.#onChange()
  }

  #version(): number {
    try {
      return this.#file.dataVersion()
    } catch {
      // Busy or failing: what writes will say so. Counts as a change, so that it is looked at again.
      return Number.NaN
    }
  }

  #next(): void {
    this.#alarm.setBy(this.#clock.now() + this.#pollMs)
  }
}
