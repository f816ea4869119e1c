import type { Cancel, Clock } from '../../src/contract/clock.ts'

/** One timer for many instants: goes off at the earliest that was asked for, then waits to be set again. */
export class Alarm {
  readonly #clock: Clock
  readonly #task: () => void
  #at = Infinity
  #cancel: Cancel | null = null

  constructor(clock: Clock, task: () => void) {
    this.#clock = clock
    this.#task = task
  }

  /** Makes it go off at that instant of the clock or before. */
  setBy(instant: number): void {
    if (instant >= this.#at) return
    this.cancel()
    this.#at = instant
    this.#cancel = this.#clock.after(instant - this.#clock.now(), () => this.#ring())
  }

  cancel(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#at = Infinity
  }

  #ring(): void {
    this.#cancel = null
    this.#at = Infinity
    this.#task()
  }
}
