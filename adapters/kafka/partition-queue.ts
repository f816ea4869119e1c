import type { TopicPartition } from './driver.ts'
import type { LeaderLane } from './leader-lane.ts'
import type { Outgoing } from './outgoing.ts'
import type { TopicRoute } from './topic-route.ts'

/** Records in one part at most: what is lost with a part is lost together. */
const MOST_RECORDS = 1_000
/** Emptied places kept at the front before the rest is moved up. */
const MOST_EMPTY = 1_024

/**
 * What waits to be written to one partition, in the order it was handed in. At most one part of it is
 * unresolved anywhere, so a later record can never be stored before an earlier one.
 */
export class PartitionQueue implements TopicPartition {
  readonly topic: string
  readonly partition: number
  readonly route: TopicRoute
  /** `resting`: it waits until its leader is looked up again. */
  state: 'idle' | 'unresolved' | 'resting' = 'idle'
  /** Where it is written through; `null`: it has no leader. */
  lane: LeaderLane | null = null
  /** Tries in a row that were given back. */
  tries = 0
  #items: Outgoing[] = []
  #head = 0
  /** Records at the front of which one made the broker refuse all of them. */
  #suspects = 0
  /** How many of the suspects are tried at once. */
  #chunk = 0

  constructor(route: TopicRoute, partition: number) {
    this.topic = route.topic
    this.partition = partition
    this.route = route
  }

  get size(): number {
    return this.#items.length - this.#head
  }

  push(item: Outgoing): void {
    this.#items.push(item)
  }

  /** They were not written after all, and are the first ones again. */
  putBack(items: readonly Outgoing[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)]
    this.#head = 0
  }

  /** The broker refused all of them because of one: they are tried in halves until it is found. */
  suspect(items: readonly Outgoing[]): void {
    this.putBack(items)
    this.#suspects = items.length
    this.#chunk = Math.ceil(items.length / 2)
  }

  /** That many are stored, or were found guilty. */
  passed(count: number): void {
    this.tries = 0
    if (this.#suspects === 0) return
    this.#suspects = Math.max(0, this.#suspects - count)
    this.#chunk = count === 1 ? this.#suspects : Math.ceil(this.#suspects / 2)
  }

  /** The first ones that go together into a batch of that size; those that `mayGo` says no to are left out. */
  take(maxBytes: number, mayGo: (item: Outgoing) => boolean): Outgoing[] {
    const most = this.#suspects > 0 ? Math.max(1, this.#chunk) : MOST_RECORDS
    const taken: Outgoing[] = []
    let bytes = 0
    while (taken.length < most) {
      const item = this.#items[this.#head]
      if (item === undefined) break
      if (mayGo(item)) {
        bytes += item.bytes
        if (taken.length > 0 && bytes > maxBytes) break
        taken.push(item)
      }
      this.#head++
    }
    this.#tidy()
    return taken
  }

  /** Takes everything out. */
  drain(): Outgoing[] {
    const all = this.#items.slice(this.#head)
    this.#items = []
    this.#head = 0
    this.#suspects = 0
    return all
  }

  /** Forgets those that ended while they waited. */
  sweep(): void {
    this.#items = this.#items.slice(this.#head).filter(({ call, index }) => call.isOpen(index))
    this.#head = 0
  }

  #tidy(): void {
    if (this.#head === this.#items.length) {
      this.#items = []
      this.#head = 0
    } else if (this.#head > MOST_EMPTY) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
  }
}
