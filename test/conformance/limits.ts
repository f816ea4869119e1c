import assert from 'node:assert/strict'

import { sleep, systemClock, type Clock } from '../../src/contract/clock.ts'
import { eventually, within } from './wait.ts'

/** What every harness may say about time. */
export interface Pace {
  /** Default `systemClock`. */
  readonly clock?: Clock
  /** Multiplies every time limit of the cases; 1 suits memory and local files, 5 a server across a network. Default 1. */
  readonly patience?: number
}

const LIMIT_MS = 10_000
const QUIET_MS = 60

/** Bounded waiting for one case. */
export class Limits {
  readonly clock: Clock
  /** How long anything may take, in milliseconds. */
  readonly limitMs: number
  readonly #quietMs: number

  constructor({ clock = systemClock, patience = 1 }: Pace) {
    this.clock = clock
    this.limitMs = LIMIT_MS * patience
    this.#quietMs = QUIET_MS * patience
  }

  /** The instant until which the next step may take. */
  deadline(ms: number = this.limitMs): number {
    return this.clock.now() + ms
  }

  /**
   * Waits for the condition within the limit and what is added to it, and fails with the text when it
   * does not hold by then.
   */
  eventually(
    what: () => string,
    condition: () => boolean | Promise<boolean>,
    addedMs = 0,
  ): Promise<void> {
    return eventually(this.clock, this.limitMs + addedMs, what, condition)
  }

  /** Awaits the promise within the limit. */
  within<T>(what: string, promise: Promise<T>): Promise<T> {
    return within(this.clock, this.limitMs, what, promise)
  }

  /** Waits until `count()` has stood still for a while, whatever it is then; for what may or may not come. */
  async still(count: () => number): Promise<void> {
    let last = count()
    let since = this.clock.now()
    await this.eventually(
      () => `it does not stop: ${last} and counting`,
      () => {
        const now = count()
        if (now !== last) since = this.clock.now()
        last = now
        return this.clock.now() - since >= this.#quietMs
      },
    )
  }

  /**
   * Watches for something that must not happen: fails with `what` when `count()` changes, for `forMs`
   * or a short while. This and `still` are the only waits that pass by time, since nothing tells that
   * nothing will come.
   */
  async quiet(what: string, count: () => number, forMs: number = this.#quietMs): Promise<void> {
    const before = count()
    const until = this.clock.now() + forMs
    while (this.clock.now() < until) {
      await sleep(this.clock, 5)
      const now = count()
      assert.equal(now, before, `${what}: ${before} became ${now}`)
    }
  }
}
