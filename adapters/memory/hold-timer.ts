import type { Deadline } from '../../src/contract/broker.ts'
import type { MemoryDelivery } from './delivery.ts'
import type { Due, Timeline } from './timeline.ts'

/** What the timer watches. */
interface Watched {
  readonly oldestHeld: MemoryDelivery | undefined
}

/** Ends a source when a delivery is held longer than the broker allows; one timer for all of them. */
export class HoldTimer implements Due {
  dueAt: Deadline = 0
  order = 0
  place = -1
  readonly #source: Watched
  readonly #timeline: Timeline
  readonly #limitMs: number
  readonly #tooLong: () => void

  constructor(source: Watched, timeline: Timeline, limitMs: number, tooLong: () => void) {
    this.#source = source
    this.#timeline = timeline
    this.#limitMs = limitMs
    this.#tooLong = tooLong
  }

  handedOver(delivery: MemoryDelivery): void {
    delivery.handedAt = this.#timeline.now()
    if (this.place === -1) this.#watch(delivery)
  }

  stop(): void {
    this.#timeline.remove(this)
  }

  due(): void {
    const oldest = this.#source.oldestHeld
    if (oldest === undefined) return
    if (oldest.handedAt + this.#limitMs <= this.#timeline.now()) this.#tooLong()
    else this.#watch(oldest)
  }

  #watch(delivery: MemoryDelivery): void {
    this.dueAt = delivery.handedAt + this.#limitMs
    this.#timeline.add(this)
  }
}
