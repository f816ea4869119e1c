import type { Cancel, Clock } from '../../src/contract/clock.ts'
import { Heap, type Placed } from './heap.ts'

/** Something that happens at an instant; `place` and `order` belong to the timeline. */
export interface Due extends Placed {
  /** Monotonic milliseconds of the clock. */
  dueAt: number
  order: number
  due(): void
}

/**
 * Everything that waits for an instant, behind one timer for the earliest. Equal instants keep the
 * order in which they were added, nothing is ever early, and without a clock nothing happens.
 */
export class Timeline {
  readonly #heap = new Heap<Due>(
    (a, b) => a.dueAt < b.dueAt || (a.dueAt === b.dueAt && a.order < b.order),
  )
  #clock: Clock | null = null
  #cancel: Cancel | null = null
  #running = false
  #armedFor = Infinity
  #added = 0
  #stoppedAt = 0

  get size(): number {
    return this.#heap.size
  }

  /** Monotonic milliseconds of the clock it runs on. */
  now(): number {
    return this.#clock?.now() ?? 0
  }

  /** Starts, or goes on with the time left when it was stopped; other clocks count from elsewhere. */
  start(clock: Clock): void {
    const shift = this.#clock === null || this.#clock === clock ? 0 : clock.now() - this.#stoppedAt
    if (shift !== 0) for (const item of this.#heap.items) item.dueAt += shift
    this.#clock = clock
    this.#running = true
    this.#arm()
  }

  /** Cancels the timer; what waits goes on waiting until the next start. */
  stop(): void {
    if (this.#running && this.#clock !== null) this.#stoppedAt = this.#clock.now()
    this.#running = false
    this.#disarm()
  }

  add(item: Due): void {
    item.order = this.#added++
    this.#heap.push(item)
    if (item.dueAt < this.#armedFor) this.#arm()
  }

  /** Forgets the item; false when it is not waiting. */
  remove(item: Due): boolean {
    const removed = this.#heap.remove(item)
    if (this.#heap.size === 0) this.#disarm()
    return removed
  }

  #arm(): void {
    this.#disarm()
    const first = this.#heap.peek()
    if (first === undefined || this.#clock === null || !this.#running) return
    this.#armedFor = first.dueAt
    this.#cancel = this.#clock.after(first.dueAt - this.#clock.now(), () => this.#fire())
  }

  #disarm(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#armedFor = Infinity
  }

  #fire(): void {
    this.#disarm()
    const now = (this.#clock as Clock).now()
    for (let next = this.#heap.peek(); next !== undefined && next.dueAt <= now;) {
      this.#heap.remove(next)
      next.due()
      next = this.#heap.peek()
    }
    this.#arm()
  }
}

/** A task for an instant of the timeline. */
export class Later implements Due {
  dueAt: number
  order = 0
  place = -1
  readonly #task: () => void

  constructor(dueAt: number, task: () => void) {
    this.dueAt = dueAt
    this.#task = task
  }

  due(): void {
    this.#task()
  }
}
