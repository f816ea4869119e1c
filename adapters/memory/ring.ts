/** A first-in-first-out queue in one circular array: adding and taking cost O(1) and no object. */
export class Ring<T> {
  #slots: (T | undefined)[] = new Array<T | undefined>(SMALLEST)
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  push(item: T): void {
    if (this.#size === this.#slots.length) this.#resize(this.#size * 2)
    this.#slots[(this.#head + this.#size) & (this.#slots.length - 1)] = item
    this.#size++
  }

  /** The oldest item, left in place. */
  peek(): T | undefined {
    return this.#slots[this.#head]
  }

  shift(): T | undefined {
    if (this.#size === 0) return undefined
    const item = this.#slots[this.#head]
    this.#slots[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#slots.length - 1)
    this.#size--
    // A burst must not keep its array for ever.
    if (this.#size === 0 && this.#slots.length > KEPT_WHEN_EMPTY) this.#resize(SMALLEST)
    return item
  }

  /** The oldest `limit` items, left in place. */
  first(limit: number): T[] {
    const items: T[] = []
    for (let index = 0; index < Math.min(limit, this.#size); index++) {
      items.push(this.#slots[(this.#head + index) & (this.#slots.length - 1)] as T)
    }
    return items
  }

  #resize(length: number): void {
    const items = this.first(this.#size)
    items.length = length
    this.#slots = items
    this.#head = 0
  }
}

/** Lengths are powers of two, so that the place of an item is one mask away. */
const SMALLEST = 16
const KEPT_WHEN_EMPTY = 16_384
