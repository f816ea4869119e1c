import type { Call } from './call.ts'

/** So many calls at the front may be written before they are let go of. */
const MOST_WRITTEN = 256
/** So many may have ended while they waited. */
const MOST_ENDED = 64

/** Calls that are not written to their end yet, in their order; those that ended meanwhile are let go of. */
export class CallQueue {
  #calls: Call[] = []
  /** Calls before it are written. */
  #head = 0
  /** Calls that ended before they were written, since it was last tidied up. */
  #ended = 0

  add(call: Call): void {
    this.#calls.push(call)
  }

  /** The first of which something is not looked at for writing. */
  next(): Call | null {
    for (; this.#head < this.#calls.length; this.#head++) {
      const call = this.#calls[this.#head] as Call
      if (call.cursor < call.batch.length) return call
    }
    return null
  }

  waiting(): readonly Call[] {
    return this.#calls.slice(this.#head)
  }

  /** All at once is cheaper than one by one, and the rest is short. */
  tidy(): void {
    if (this.#head <= MOST_WRITTEN && this.#head < this.#calls.length) return
    this.#calls = this.#calls.slice(this.#head)
    this.#head = 0
  }

  /** A call ended while it waited: while there is no connection, nobody else takes it out. */
  passed(): void {
    const waiting = this.#calls.length - this.#head
    if (++this.#ended < MOST_ENDED || this.#ended * 2 < waiting) return
    this.#calls = this.waiting().filter((call) => !call.isOver)
    this.#head = 0
    this.#ended = 0
  }

  clear(): void {
    this.#calls = []
    this.#head = 0
  }
}
