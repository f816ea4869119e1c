import { setTimeout as sleep } from 'node:timers/promises'

/** Lets `wait` return so often per second, evenly; what was missed while busy is not made up for at once. */
export class Pace {
  readonly #intervalMs: number
  #nextMs = 0

  constructor(perSecond: number | null) {
    this.#intervalMs = perSecond === null ? 0 : 1_000 / perSecond
  }

  async wait(signal: AbortSignal): Promise<void> {
    if (this.#intervalMs === 0) return
    const now = performance.now()
    // Timers are exact to about a millisecond: short waits are added up until they are worth one.
    this.#nextMs = Math.max(this.#nextMs, now - 50) + this.#intervalMs
    if (this.#nextMs - now >= 2) await sleep(this.#nextMs - now, undefined, { signal })
  }
}
