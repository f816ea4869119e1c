import type { Cancel, Clock } from '../contract/clock.ts'
import type { HoldLimits } from './hold-limits.ts'
import { type Holdings, isWaiting } from './holdings.ts'

/** Beyond this a hold is as good as unlimited: nothing looks at ages. */
const LONGEST_LIMIT_MS = 30 * 86_400_000

/**
 * Looks every so often whether anything is held so long that the broker would take it away, and gives
 * it back first: in order, and only while no handler of its source's keys has it.
 */
export class Aging {
  readonly #clock: Clock
  readonly #everyMs: number
  readonly #limits: HoldLimits
  readonly #holdings: Holdings
  #cancel: Cancel | null = null

  constructor(clock: Clock, maxMs: number, limits: HoldLimits, holdings: Holdings) {
    this.#clock = clock
    this.#everyMs = maxMs > LONGEST_LIMIT_MS ? 0 : Math.max(10, Math.floor(maxMs / 40))
    this.#limits = limits
    this.#holdings = holdings
  }

  start(): void {
    if (this.#everyMs === 0) return
    this.#cancel = this.#clock.after(this.#everyMs, () => {
      const old = this.#limits.tooOld(this.#holdings.assignments, this.#clock.now())
      for (const held of old) {
        const isKeyFree = held.lane === null || held.lane.executing === 0
        if (isKeyFree && isWaiting(held)) this.#holdings.giveBack(held)
      }
      this.start()
    })
  }

  stop(): void {
    this.#cancel?.()
  }
}
