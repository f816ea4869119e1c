import type { Coordinates, Delivery, Source } from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'

/** The three ways to settle. retry is a failure (reject), release is none (nack): from 4.3 on the broker tells them apart. */
export type Settling = 'ack' | 'release' | 'retry'

/** Where deliveries are settled: the channel they came on, and no other. */
export interface Settler {
  /** Called any number of times for a delivery; the first counts. */
  settle(delivery: RabbitmqDelivery, how: Settling): void
}

/** What a delivery is made from. */
export interface DeliveryFacts {
  readonly envelope: Envelope
  readonly tag: number
  readonly bytes: number
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
}

/** A message handed over. It knows its channel, so that its tag can never settle what another channel calls the same. */
export class RabbitmqDelivery implements Delivery {
  readonly envelope: Envelope
  readonly source: Source
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
  /** The channel's number for it. */
  readonly tag: number
  readonly bytes: number
  /** held: to be settled. A way of settling: decided, not written yet. done: written, or never to be. abandoned: its channel was over first. */
  state: 'held' | Settling | 'done' | 'abandoned' = 'held'
  /** Its neighbours among those of the channel that are not written yet, by tag. */
  previous: RabbitmqDelivery | null = null
  next: RabbitmqDelivery | null = null
  protected readonly settler: Settler

  constructor(settler: Settler, source: Source, facts: DeliveryFacts) {
    this.settler = settler
    this.source = source
    this.envelope = facts.envelope
    this.tag = facts.tag
    this.bytes = facts.bytes
    this.attempt = facts.attempt
    this.redelivered = facts.redelivered
  }

  get at(): Coordinates {
    return `${this.source.name}#${this.tag}`
  }

  ack(): void {
    this.settler.settle(this, 'ack')
  }

  release(): void {
    this.settler.settle(this, 'release')
  }
}

/** A delivery of a queue that delays retries itself, by a time of its own: longer ones are not its business. */
export class RetryableDelivery extends RabbitmqDelivery {
  readonly #waitMs: number

  /** `waitMs`: how long the queue waits after this failure. */
  constructor(settler: Settler, source: Source, facts: DeliveryFacts, waitMs: number) {
    super(settler, source, facts)
    this.#waitMs = waitMs
  }

  retry(delayMs: number): boolean {
    if (delayMs > this.#waitMs) return false
    this.settler.settle(this, 'retry')
    return true
  }
}
