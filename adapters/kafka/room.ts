import type { Subscription } from '../../src/contract/broker.ts'

/** The bound on deliveries handed over and not settled, of one receiver over all its partitions. */
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
  take(bytes: number): boolean {
    const fits = this.#messages === 0 || this.#bytes + bytes <= this.#max.bytes
    if (!fits || this.#messages >= this.#max.messages) {
      this.#wanted = true
      return false
    }
    this.#messages++
    this.#bytes += bytes
    return true
  }

  give(bytes: number): void {
    this.#messages--
    this.#bytes -= bytes
    if (!this.#wanted) return
    this.#wanted = false
    this.#onFree()
  }
}
