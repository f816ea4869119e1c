import type { Subscription } from '../../src/contract/broker.ts'

/** What one partition has of the room. */
export interface Share {
  readonly messages: number
  readonly bytes: number
}

/** A partition may have so many times of what is free: one alone gets most, and nobody gets all. */
const TIMES = 4
/** A room that small is given to whoever wants it. */
const SMALL = 64

/**
 * The bound on deliveries handed over and not settled, of one receiver over all its partitions. One that
 * is slow leaves room to the others.
 */
export class Room {
  readonly #max: Subscription['maxHeld']
  readonly #onFree: () => void
  #messages = 0
  #bytes = 0
  #wanted = false

  /** `onFree` is called when something was settled after somebody had found no room. */
  constructor(max: Subscription['maxHeld'], onFree: () => void) {
    this.#max = max
    this.#onFree = onFree
  }

  /** Takes a message's share; one into an empty room may be of any size, it could never come else. */
  take(bytes: number, has: Share): boolean {
    const fits = this.#messages === 0 || this.#bytes + bytes <= this.#max.bytes
    if (fits && this.#messages < this.#max.messages && this.#isFair(has)) {
      this.#messages++
      this.#bytes += bytes
      return true
    }
    this.#wanted = true
    return false
  }

  give(bytes: number): void {
    this.#messages--
    this.#bytes -= bytes
    if (!this.#wanted) return
    this.#wanted = false
    this.#onFree()
  }

  #isFair({ messages, bytes }: Share): boolean {
    if (messages === 0 || this.#max.messages < SMALL) return true
    const isFew = messages < TIMES * (this.#max.messages - this.#messages)
    return isFew && bytes < TIMES * (this.#max.bytes - this.#bytes)
  }
}
