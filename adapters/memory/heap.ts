/** Something that waits in a `Heap`; `place` belongs to the heap, -1 while it is in none. */
export interface Placed {
  place: number
}

/** A binary heap that knows where its items are, so that any of them is removed in O(log n). */
export class Heap<T extends Placed> {
  readonly #items: T[] = []
  readonly #before: (a: T, b: T) => boolean

  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before
  }

  get size(): number {
    return this.#items.length
  }

  /** All items, in no order. */
  get items(): readonly T[] {
    return this.#items
  }

  peek(): T | undefined {
    return this.#items[0]
  }

  push(item: T): void {
    this.#put(item, this.#items.length)
    this.#up(item)
  }

  pop(): T | undefined {
    const first = this.#items[0]
    if (first !== undefined) this.remove(first)
    return first
  }

  /** Removes the item; false when it is not here. */
  remove(item: T): boolean {
    if (this.#items[item.place] !== item) return false
    const last = this.#items.pop() as T
    if (last !== item) {
      this.#put(last, item.place)
      this.#up(last)
      this.#down(last)
    }
    item.place = -1
    return true
  }

  #put(item: T, place: number): void {
    this.#items[place] = item
    item.place = place
  }

  #up(item: T): void {
    while (item.place > 0) {
      const above = this.#items[(item.place - 1) >> 1] as T
      if (!this.#before(item, above)) return
      this.#swap(item, above)
    }
  }

  #down(item: T): void {
    for (;;) {
      const left = this.#items[2 * item.place + 1]
      const right = this.#items[2 * item.place + 2]
      const below = right !== undefined && this.#before(right, left as T) ? right : left
      if (below === undefined || !this.#before(below, item)) return
      this.#swap(below, item)
    }
  }

  #swap(a: T, b: T): void {
    const place = a.place
    this.#put(a, b.place)
    this.#put(b, place)
  }
}
