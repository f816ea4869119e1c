import type { Coordinates, Delivery, Source } from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'

/** A source as deliveries see it: where their settles go. */
export interface Holder extends Source {
  acked(delivery: MemoryDelivery): void
  released(delivery: MemoryDelivery): void
  retried(delivery: MemoryDelivery, delayMs: number): void
  /** A settle came after the source was lost. */
  stale(): void
}

/** held: to be settled. settled: by its consumer. finished: the broker knows. gone: the broker took it back. */
type State = 'held' | 'settled' | 'finished' | 'gone'

/** A message handed over. Settling costs O(1): it knows its neighbours in the list of what is held. */
export class MemoryDelivery implements Delivery {
  readonly envelope: Envelope
  readonly source: Holder
  readonly seq: number
  readonly attempt: number
  readonly redelivered: 'no' | 'maybe' | 'yes'
  /** When it was handed over, on the clock; kept only where holding has a limit. */
  handedAt = 0
  #state: State = 'held'
  #before: MemoryDelivery | null = null
  #after: MemoryDelivery | null = null

  constructor(
    envelope: Envelope,
    source: Holder,
    seq: number,
    attempt: number,
    redelivered: 'no' | 'maybe' | 'yes',
  ) {
    this.envelope = envelope
    this.source = source
    this.seq = seq
    this.attempt = attempt
    this.redelivered = redelivered
  }

  get at(): Coordinates {
    return `${this.source.name}#${this.seq}`
  }

  get bytes(): number {
    return this.envelope.body?.length ?? 0
  }

  get held(): boolean {
    return this.#state === 'held'
  }

  get finished(): boolean {
    return this.#state === 'finished'
  }

  /** The broker knows that it is done. */
  finish(): void {
    this.#state = 'finished'
  }

  ack(): void {
    if (this.settle()) this.source.acked(this)
  }

  release(): void {
    if (this.settle()) this.source.released(this)
  }

  /** True for the first settle of a delivery that is still its source's. */
  protected settle(): boolean {
    if (this.#state === 'gone') this.source.stale()
    if (this.#state !== 'held') return false
    this.#state = 'settled'
    return true
  }

  /** The broker takes it back: settles from now on are stale. */
  takeBack(): void {
    this.#state = 'gone'
  }

  /** Appends to a list of held deliveries. */
  static link(list: HeldList, delivery: MemoryDelivery): void {
    delivery.#before = list.last
    if (list.last === null) list.first = delivery
    else list.last.#after = delivery
    list.last = delivery
  }

  /** Takes out of the list it is in. */
  static unlink(list: HeldList, delivery: MemoryDelivery): void {
    const before = delivery.#before
    const after = delivery.#after
    if (before === null) list.first = after
    else before.#after = after
    if (after === null) list.last = before
    else after.#before = before
    delivery.#before = null
    delivery.#after = null
  }

  /** The next one in its list. */
  static after(delivery: MemoryDelivery): MemoryDelivery | null {
    return delivery.#after
  }

  /** The list's deliveries in the order in which they were handed over. */
  static all(list: HeldList): MemoryDelivery[] {
    const all: MemoryDelivery[] = []
    for (let next = list.first; next !== null; next = next.#after) all.push(next)
    return all
  }
}

/** What `retryDelay: 'native'` adds. */
export class RetryableDelivery extends MemoryDelivery {
  retry(delayMs: number): true {
    if (this.settle()) this.source.retried(this, delayMs)
    return true
  }
}

/** Both ends of a list of held deliveries. */
export interface HeldList {
  first: MemoryDelivery | null
  last: MemoryDelivery | null
}
