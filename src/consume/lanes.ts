import type { Clock } from '../contract/clock.ts'
import { DelayQueue } from '../policy/delay-queue.ts'
import type { Held } from './held.ts'
import { Turns } from './turns.ts'

/** The FIFO of one key: at most one slice of it runs, its followers wait behind it. */
export interface Lane {
  readonly index: Map<string, Lane>
  readonly key: string
  first: Held | null
  last: Held | null
  /** Handlers of this key that have not ended, whatever epoch or source they came with. */
  executing: number
  /** Its first one failed and is waited for. */
  blocked: boolean
}

/** Told when deliveries start and stop waiting for a failed one; see `HoldLimits`. */
export interface BlockedListener {
  blocked(held: Held): void
  unblocked(held: Held): void
}

/**
 * Where deliveries wait for their turn. Those with an order key go through the lane of their topic
 * and key, one after the other; the others are a lane each, at no cost.
 */
export class Lanes {
  readonly #turns: Turns
  readonly #topics = new Map<string, Map<string, Lane>>()
  readonly #waits: DelayQueue<Held>
  readonly #listener: BlockedListener
  readonly #onReady: () => void

  /**
   * `places`: slices at once. `onReady` is called whenever a delivery becomes startable; it must not take
   * slices itself.
   */
  constructor(clock: Clock, places: number, listener: BlockedListener, onReady: () => void) {
    this.#turns = new Turns(clock, places, onReady)
    this.#waits = new DelayQueue(clock, (held) => this.#isDue(held))
    this.#listener = listener
    this.#onReady = onReady
  }

  /** Lane heads and unordered deliveries that may start; some may have been dropped since. */
  get ready(): number {
    return this.#turns.length
  }

  /** Adds a delivery behind those of its key. */
  add(held: Held, orderKey: string | null): void {
    this.#turns.arrived(held)
    if (orderKey === null) return this.#makeReady(held)
    const lane = this.#laneOf(held.topic.name, orderKey)
    held.lane = lane
    held.previous = lane.last
    if (lane.last === null) lane.first = held
    else lane.last.next = held
    lane.last = held
    if (lane.blocked) this.#block(held)
    this.#advance(lane)
  }

  /**
   * The next slice, at most `want` deliveries: heads of different lanes first, then their followers
   * in order. One that has to be alone is. It has a place until it is `freed`.
   */
  take(want: number, heads: number = want): Held[] {
    const slice = this.#slice(want, heads)
    this.#turns.started(slice)
    return slice
  }

  /** Every handler of the slice has ended. */
  freed(slice: readonly Held[]): void {
    this.#turns.ended(slice)
  }

  /** How many deliveries a slice could have now, counted up to `limit`. */
  startable(limit: number): number {
    let count = 0
    for (const head of this.#turns) {
      if (head.place !== 'ready') continue
      for (let held: Held | null = head; held !== null; held = held.next) {
        if (++count === limit) return count
      }
    }
    return count
  }

  /** It stays held, at the head of its lane, for at least `ms`; 0 puts it back for the next slice. */
  wait(held: Held, ms: number): void {
    if (ms <= 0) {
      held.place = 'queued'
      this.#reopen(held)
      return
    }
    held.place = 'waiting'
    this.#blockLane(held)
    this.#waits.add(ms, held)
  }

  /** It stays at its place, closing its lane, until it is removed: a copy of it is being stored. */
  store(held: Held): void {
    held.place = 'storing'
    this.#blockLane(held)
  }

  /** Settled or dropped: its followers come next, once its handler has ended. */
  remove(held: Held): void {
    held.place = 'gone'
    this.#unblock(held)
    const { lane } = held
    if (lane === null) return
    const wasFirst = lane.first === held
    this.#unlink(held, lane)
    if (wasFirst && !isClosing(lane.first)) this.#unblockLane(lane)
    this.#advance(lane)
  }

  /** Its handler has really ended. */
  ended(held: Held): void {
    held.executing = false
    if (held.lane !== null) held.lane.executing--
    this.#reopen(held)
  }

  /** Stops the timers; nothing that waits becomes ready any more. */
  close(): void {
    this.#waits.clear()
    this.#turns.close()
  }

  #slice(want: number, heads: number): Held[] {
    const first = this.#nextHead(true)
    if (first === null) return []
    // Most slices are of one, and an array that is pushed to has room for many.
    const slice = [first]
    if (first.alone) return slice
    const most = Math.min(want, heads)
    while (slice.length < most) {
      const head = this.#nextHead(false)
      if (head === null) break
      slice.push(head)
    }
    for (let at = 0; at < slice.length && slice.length < want; at++) {
      const follower = (slice[at] as Held).next
      if (follower?.place !== 'queued' || follower.alone) continue
      this.#start(follower)
      slice.push(follower)
    }
    return slice
  }

  /** The next one whose turn it is, started; `null`: there is none, or it has to be first of its slice. */
  #nextHead(isFirst: boolean): Held | null {
    for (;;) {
      const held = this.#turns.peek()
      if (held === undefined || (held.alone && !isFirst)) return null
      this.#turns.shift()
      if (held.place !== 'ready') continue
      this.#start(held)
      return held
    }
  }

  #isDue(held: Held): void {
    if (held.place !== 'waiting') return
    held.place = 'queued'
    this.#reopen(held)
  }

  #start(held: Held): void {
    held.place = 'running'
    held.executing = true
    if (held.lane !== null) held.lane.executing++
  }

  #reopen(held: Held): void {
    if (held.lane !== null) this.#advance(held.lane)
    else if (held.place === 'queued' && !held.executing) this.#makeReady(held)
  }

  /** A key never has two handlers at once: its next delivery starts when the last handler has ended. */
  #advance(lane: Lane): void {
    if (lane.executing > 0) return
    if (lane.first === null) lane.index.delete(lane.key)
    else if (lane.first.place === 'queued') this.#makeReady(lane.first)
  }

  #makeReady(held: Held): void {
    held.place = 'ready'
    this.#turns.push(held)
    this.#onReady()
  }

  #laneOf(topic: string, key: string): Lane {
    let index = this.#topics.get(topic)
    if (index === undefined) this.#topics.set(topic, (index = new Map()))
    let lane = index.get(key)
    if (lane === undefined) {
      lane = { index, key, first: null, last: null, executing: 0, blocked: false }
      index.set(key, lane)
    }
    return lane
  }

  #unlink(held: Held, lane: Lane): void {
    if (held.previous === null) lane.first = held.next
    else held.previous.next = held.next
    if (held.next === null) lane.last = held.previous
    else held.next.previous = held.previous
    held.previous = null
    held.next = null
  }

  #blockLane(held: Held): void {
    this.#block(held)
    const { lane } = held
    if (lane === null || lane.blocked) return
    lane.blocked = true
    for (let next = lane.first; next !== null; next = next.next) this.#block(next)
  }

  #unblockLane(lane: Lane): void {
    if (!lane.blocked) return
    lane.blocked = false
    for (let next = lane.first; next !== null; next = next.next) this.#unblock(next)
  }

  #block(held: Held): void {
    if (held.blocked) return
    held.blocked = true
    this.#listener.blocked(held)
  }

  #unblock(held: Held): void {
    if (!held.blocked) return
    held.blocked = false
    this.#listener.unblocked(held)
  }
}

/** The delivery keeps the lane it is first of closed. */
function isClosing(held: Held | null): boolean {
  return held !== null && (held.place === 'waiting' || held.place === 'storing')
}
