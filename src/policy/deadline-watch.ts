import type { Cancel, Clock } from '../contract/clock.ts'

/** Something that ends by itself at an instant unless it ended before. In at most one watch at a time. */
export abstract class Watched {
  /** Monotonic instant at which `onDue` is called. Not changed while watched. */
  dueAt: number
  /** The watch it is in, and its neighbours there; written by the watch only. */
  watch: DeadlineWatch | null = null
  earlier: Watched | null = null
  later: Watched | null = null

  constructor(dueAt: number) {
    this.dueAt = dueAt
  }

  /** Called once, after it was taken out of the watch. Does not throw. */
  abstract onDue(): void
}

/**
 * Many deadlines on one timer: adding and removing cost a few pointers, whatever their number. It also
 * is the list of what is watched, in the order it was added.
 */
export class DeadlineWatch {
  readonly #clock: Clock
  #first: Watched | null = null
  #last: Watched | null = null
  #size = 0
  #armedFor = Number.POSITIVE_INFINITY
  #cancel: Cancel | null = null
  #disarming = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get size(): number {
    return this.#size
  }

  /** What was added first and is still watched. */
  get first(): Watched | null {
    return this.#first
  }

  add(item: Watched): void {
    item.watch = this
    item.earlier = this.#last
    item.later = null
    if (this.#last === null) this.#first = item
    else this.#last.later = item
    this.#last = item
    this.#size++
    if (item.dueAt < this.#armedFor) this.#arm(item.dueAt)
  }

  /** Takes it out; nothing happens when it is not in this watch. */
  remove(item: Watched): void {
    if (item.watch !== this) return
    const { earlier, later } = item
    if (earlier === null) this.#first = later
    else earlier.later = later
    if (later === null) this.#last = earlier
    else later.earlier = earlier
    item.watch = item.earlier = item.later = null
    this.#size--
    if (this.#size === 0 && !this.#disarming) this.#disarmSoon()
  }

  /** Everything watched now, in the order it was added. */
  items(): Watched[] {
    const items: Watched[] = []
    for (let item = this.#first; item !== null; item = item.later) items.push(item)
    return items
  }

  /** Stops the timer; what is still watched is never told. */
  close(): void {
    this.#disarm()
  }

  /** Next turn, since whoever waits for the last one usually adds another at once. */
  #disarmSoon(): void {
    this.#disarming = true
    this.#clock.defer(() => {
      this.#disarming = false
      if (this.#size === 0) this.#disarm()
    })
  }

  #disarm(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#armedFor = Number.POSITIVE_INFINITY
  }

  #arm(at: number): void {
    this.#cancel?.()
    this.#armedFor = at
    this.#cancel = this.#clock.after(at - this.#clock.now(), () => this.#fire())
  }

  /** One pass finds who is due and when the next one is: in a healthy system it finds nobody. */
  #fire(): void {
    this.#disarm()
    const now = this.#clock.now()
    const due: Watched[] = []
    let next = Number.POSITIVE_INFINITY
    for (let item = this.#first; item !== null; item = item.later) {
      if (item.dueAt <= now) due.push(item)
      else if (item.dueAt < next) next = item.dueAt
    }
    for (const item of due) this.remove(item)
    if (next < Number.POSITIVE_INFINITY) this.#arm(next)
    for (const item of due) item.onDue()
  }
}
