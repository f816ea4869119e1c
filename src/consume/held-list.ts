import type { Held } from './held.ts'

/**
 * What is held of one source, in the order it came. The deliveries themselves are the links: a `Set`
 * that fills and empties all the time leaves a table behind at each change of its size, and a table
 * that got old keeps everything of the next one in memory, message for message, until the engine
 * collects all of it.
 */
export class HeldList implements Iterable<Held> {
  #oldest: Held | null = null
  #newest: Held | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Behind all others; it is in no list yet. */
  add(held: Held): void {
    held.older = this.#newest
    if (this.#newest === null) this.#oldest = held
    else this.#newest.newer = held
    this.#newest = held
    this.#size++
  }

  /** Nothing when it is not in this list any more. It may be added again. */
  delete(held: Held): void {
    const { older, newer } = held
    if (older === null && this.#oldest !== held) return
    if (older === null) this.#oldest = newer
    else older.newer = newer
    if (newer === null) this.#newest = older
    else newer.older = older
    held.older = held.newer = null
    this.#size--
  }

  /** The list must not change meanwhile. */
  *[Symbol.iterator](): Iterator<Held> {
    for (let held = this.#oldest; held !== null; held = held.newer) yield held
  }
}
