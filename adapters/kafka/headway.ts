import type { Clock } from '../../src/contract/clock.ts'

/** How far ahead of what is handed out a commit says that handlers may be: at least, and at most. */
const LEAST_AHEAD = 1_000
const MOST_AHEAD = 100_000
/** How long it is to last. */
const AHEAD_MS = 2_000

/**
 * How far handlers of one partition may get before the next commit. Each commit says it, so that after a
 * crash the next owner knows what may have been begun: nobody gets a record beyond it.
 */
export class Headway {
  readonly #clock: Clock
  /** The broker knows that handlers may get up to here. */
  #mayHandTo = 0
  #ahead = LEAST_AHEAD
  #savedEnd = 0
  #savedAt = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** What the broker was told, in places. */
  get told(): number {
    return this.#mayHandTo
  }

  /** What a commit is to say when everything before `end` was handed out. */
  beyond(end: number): number {
    return end + this.#ahead
  }

  /** So near to what the broker was told that it is to be told more. */
  isShort(place: number): boolean {
    return place >= this.#mayHandTo - this.#ahead / 2
  }

  /** Whether the record of that place may be handed out. */
  lets(place: number): boolean {
    return place < this.#mayHandTo
  }

  /** The broker was told `handedTo` when everything before `end` was handed out; it may be without end. */
  saved(end: number, handedTo: number): void {
    this.#keepPace(end)
    this.#mayHandTo = handedTo
  }

  /** As much ahead as is handed out while a few commits are made, so that none of them is made for that. */
  #keepPace(end: number): void {
    const now = this.#clock.now()
    const perMs = (end - this.#savedEnd) / Math.max(1, now - this.#savedAt)
    const isShort = end > this.#mayHandTo - this.#ahead / 2
    const wanted = Math.max(perMs * AHEAD_MS, isShort ? this.#ahead * 2 : 0)
    this.#ahead = Math.round(Math.min(MOST_AHEAD, Math.max(LEAST_AHEAD, wanted)))
    this.#savedEnd = end
    this.#savedAt = now
  }
}
