import type { Clock } from '../contract/clock.ts'
import { BufferFullError } from '../contract/errors.ts'
import { DeadlineWatch } from '../policy/deadline-watch.ts'
import type { Pending } from './pending.ts'
import type { Route } from './route.ts'

/** Bounds on everything that has no outcome yet, sent or not. */
export interface Bounds {
  readonly messages: number
  readonly bytes: number
  /** What happens beyond: wait for room (as many may wait as fit the bounds again), or fail at once. */
  readonly whenFull: 'wait' | 'fail'
  /** How long one may wait for room, in milliseconds, within its deadline. */
  readonly waitMs: number
}

/** What the accumulator hands back. */
export interface Accumulating {
  /** Room was found: from now on it is counted. */
  admitted(pending: Pending): void
  /** Once per tick, with everything that became ready. */
  flush(ready: readonly Pending[]): void
}

/**
 * Collects what is ready and hands it on once per tick; keeps what is outstanding within its bounds.
 * One destination may use half of the room as soon as there are others, so that a stalled one leaves
 * room for them.
 */
export class Accumulator {
  readonly #bounds: Bounds
  readonly #clock: Clock
  readonly #owner: Accumulating
  readonly #waiters: DeadlineWatch
  /** Destinations somebody waits for room of, served in turn. */
  readonly #queueing = new Set<Route>()
  #ready: Pending[] = []
  #scheduled = false
  #now = 0
  #messages = 0
  #bytes = 0
  #waitingBytes = 0
  #routes = 0
  /** Somebody waits although his destination has used less than its share. */
  #roomIsAwaited = false

  constructor(bounds: Bounds, clock: Clock, owner: Accumulating) {
    this.#bounds = bounds
    this.#clock = clock
    this.#owner = owner
    this.#waiters = new DeadlineWatch(clock)
  }

  get messages(): number {
    return this.#messages
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How many wait for room. */
  get waiting(): number {
    return this.#waiters.size
  }

  /** Everything that waits for room. */
  waiters(): Pending[] {
    return this.#waiters.items() as Pending[]
  }

  /** The present time, read once per tick. */
  now(): number {
    if (!this.#scheduled) this.#schedule()
    return this.#now
  }

  /** Says that there is one more destination to share the room with. */
  addRoute(): void {
    this.#routes++
  }

  /** Admits it, lets it wait for room, or returns why neither is possible. */
  take(pending: Pending): BufferFullError | null {
    if (!this.#mustQueue(pending.route)) {
      const lack = this.#lacks(pending)
      if (lack === null) {
        this.#admit(pending)
        return null
      }
      if (lack === 'room') this.#roomIsAwaited = true
    }
    if (this.#bounds.whenFull === 'fail') return this.#full(pending, 'and whenFull is "fail"')
    if (!this.#mayWait(pending)) return this.#full(pending, 'and as many again wait for room')
    this.#queue(pending)
    return null
  }

  /** It waited as long as it may. */
  waitedInVain(pending: Pending): BufferFullError {
    return this.#full(pending, `and stayed so for ${this.#bounds.waitMs} ms or until the deadline`)
  }

  /** Takes it out of those that wait for room. */
  leave(pending: Pending): void {
    const { route } = pending
    this.#waiters.remove(pending)
    this.#waitingBytes -= pending.bytes
    pending.unshelve()
    if (route.waiting.size === 0) this.#queueing.delete(route)
  }

  /** It goes with the next flush. */
  ready(pending: Pending): void {
    pending.stage = 'ready'
    this.#ready.push(pending)
    if (!this.#scheduled) this.#schedule()
  }

  /** It ended: its room is free for those that wait. */
  free(pending: Pending): void {
    this.#messages--
    this.#bytes -= pending.bytes
    pending.route.outstanding--
    if (this.#queueing.size > 0) this.#refill()
  }

  /** Stops its timer. What is still inside is the owner's to end. */
  close(): void {
    this.#waiters.close()
  }

  /** Whoever comes now goes behind those of its destination, and behind those the whole room lacks for. */
  #mustQueue(route: Route): boolean {
    return this.#queueing.size > 0 && (this.#roomIsAwaited || route.waiting.size > 0)
  }

  /** What an envelope of that size lacks to be admitted. An empty buffer takes any. */
  #lacks({ bytes, route }: Pending): 'room' | 'share' | null {
    const { messages, bytes: most } = this.#bounds
    if (this.#messages === 0) return null
    if (this.#messages >= messages || this.#bytes + bytes > most) return 'room'
    return route.outstanding < this.#share() ? null : 'share'
  }

  #queue(pending: Pending): void {
    pending.stage = 'waiting'
    pending.dueAt = Math.min(pending.deadline, this.#clock.now() + this.#bounds.waitMs)
    pending.shelve(pending.route.waiting)
    this.#waitingBytes += pending.bytes
    this.#queueing.add(pending.route)
    this.#waiters.add(pending)
  }

  /** Admits those that wait, one of each destination in turn, as far as there is room. */
  #refill(): void {
    this.#roomIsAwaited = false
    for (let inVain = 0; inVain < this.#queueing.size;) {
      const [route] = this.#queueing as Iterable<Route> as [Route]
      const [first] = route.waiting as Iterable<Pending> as [Pending]
      this.#queueing.delete(route)
      this.#queueing.add(route)
      const lack = this.#lacks(first)
      if (lack === null) {
        inVain = 0
        this.leave(first)
        this.#admit(first)
      } else {
        inVain++
        if (lack === 'room') this.#roomIsAwaited = true
      }
    }
  }

  #mayWait({ bytes, route }: Pending): boolean {
    if (this.#waiters.size >= this.#bounds.messages || route.waiting.size >= this.#share())
      return false
    return this.#waitingBytes === 0 || this.#waitingBytes + bytes <= this.#bounds.bytes
  }

  #share(): number {
    const { messages } = this.#bounds
    return this.#routes > 1 ? Math.max(1, Math.floor(messages / 2)) : messages
  }

  #admit(pending: Pending): void {
    this.#messages++
    this.#bytes += pending.bytes
    pending.route.outstanding++
    this.#owner.admitted(pending)
  }

  #schedule(): void {
    this.#scheduled = true
    this.#now = this.#clock.now()
    this.#clock.defer(() => {
      this.#scheduled = false
      const ready = this.#ready
      this.#ready = []
      if (ready.length > 0) this.#owner.flush(ready)
    })
  }

  #full({ envelope, bytes, route }: Pending, why: string): BufferFullError {
    const { messages, bytes: most } = this.#bounds
    return new BufferFullError(
      `the buffer is full (${this.#messages} of ${messages} messages, ${this.#bytes} of ${most} bytes, ${route.outstanding} for ${route.name}; this one has ${bytes} bytes) ${why}: slow down, or raise buffer.messages, buffer.bytes or buffer.waitMs`,
      { topic: route.topic ?? undefined, messageId: envelope.id ?? undefined },
    )
  }
}
