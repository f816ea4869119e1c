import type { Cancel, Clock } from '../contract/clock.ts'

/** Lets one loop sleep until time has passed or somebody rings. A ring while it is awake is kept for its next sleep. */
export class Wake {
  readonly #clock: Clock
  #rung = false
  #end: (() => void) | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  ring(): void {
    this.#rung = true
    this.#end?.()
  }

  /** Resolves after `ms` milliseconds or with the next ring; never rejects. */
  sleep(ms: number): Promise<void> {
    if (this.#rung) {
      this.#rung = false
      return Promise.resolve()
    }
    return new Promise((resolve) => {
      let cancel: Cancel = () => undefined
      this.#end = () => {
        cancel()
        this.#end = null
        this.#rung = false
        resolve()
      }
      cancel = this.#clock.after(ms, this.#end)
    })
  }
}
