import type { Cancel, Clock } from '../contract/clock.ts'

interface Delayed<T> {
  readonly dueAt: number
  readonly item: T
}

/** Hands items back after their delays, in the order they are due, on one timer for all of them. */
export class DelayQueue<T> {
  readonly #clock: Clock
  readonly #release: (item: T) => void
  /** A binary heap: the earliest is at index 0. */
  #heap: Delayed<T>[] = []
  #armedFor = Number.POSITIVE_INFINITY
  #cancel: Cancel | null = null

  constructor(clock: Clock, release: (item: T) => void) {
    this.#clock = clock
    this.#release = release
  }

  get size(): number {
    return this.#heap.length
  }

  add(delayMs: number, item: T): void {
    const entry = { dueAt: this.#clock.now() + delayMs, item }
    this.#heap.push(entry)
    this.#rise(this.#heap.length - 1)
    if (entry.dueAt < this.#armedFor) this.#arm(entry.dueAt)
  }

  /** Forgets everything and stops the timer. */
  clear(): void {
    this.#heap = []
    this.#disarm()
  }

  #arm(at: number): void {
    this.#cancel?.()
    this.#armedFor = at
    this.#cancel = this.#clock.after(at - this.#clock.now(), () => this.#fire())
  }

  #disarm(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#armedFor = Number.POSITIVE_INFINITY
  }

  #fire(): void {
    this.#disarm()
    const now = this.#clock.now()
    const due: T[] = []
    for (let first = this.#heap[0]; first !== undefined && first.dueAt <= now;) {
      due.push(first.item)
      this.#removeFirst()
      first = this.#heap[0]
    }
    const next = this.#heap[0]
    if (next !== undefined) this.#arm(next.dueAt)
    for (const item of due) this.#release(item)
  }

  #removeFirst(): void {
    const last = this.#heap.pop()
    if (last === undefined || this.#heap.length === 0) return
    this.#heap[0] = last
    this.#sink(0)
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1
      if (this.#dueAt(parent) <= this.#dueAt(at)) return
      this.#swap(at, parent)
      at = parent
    }
  }

  #sink(from: number): void {
    for (let at = from; ;) {
      const left = 2 * at + 1
      const child = this.#dueAt(left + 1) < this.#dueAt(left) ? left + 1 : left
      if (this.#dueAt(at) <= this.#dueAt(child)) return
      this.#swap(at, child)
      at = child
    }
  }

  #dueAt(index: number): number {
    return this.#heap[index]?.dueAt ?? Number.POSITIVE_INFINITY
  }

  #swap(one: number, other: number): void {
    const kept = this.#heap[one] as Delayed<T>
    this.#heap[one] = this.#heap[other] as Delayed<T>
    this.#heap[other] = kept
  }
}
