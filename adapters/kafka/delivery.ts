import type { Coordinates, Delivery, Source } from '../../src/contract/broker.ts'
import type { ReadEnvelope } from './incoming.ts'
import { Tracked } from './offsets.ts'

/** A source as its deliveries see it. */
export interface Holder extends Source {
  /** The offset of a place. */
  offsetOf(place: number): bigint
  acked(delivery: KafkaDelivery): void
  released(delivery: KafkaDelivery): void
}

/** A record handed out. It knows its assignment, so that it can never settle what another one calls the same. */
export class KafkaDelivery extends Tracked implements Delivery {
  readonly envelope: ReadEnvelope
  readonly source: Holder
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
  /** What its record takes: key, body and headers. */
  readonly bytes: number
  /** Its bytes are its own. */
  isDetached = false
  #isHeld = true

  constructor(
    envelope: ReadEnvelope,
    source: Holder,
    attempt: number,
    redelivered: Delivery['redelivered'],
    bytes: number,
  ) {
    super()
    this.envelope = envelope
    this.source = source
    this.attempt = attempt
    this.redelivered = redelivered
    this.bytes = bytes
  }

  get at(): Coordinates {
    return `${this.source.name}:${this.source.offsetOf(this.place)}`
  }

  /** To be settled yet. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  ack(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.source.acked(this)
  }

  release(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.source.released(this)
  }

  /** It is held for long. */
  detach(): void {
    if (this.isDetached) return
    this.isDetached = true
    this.envelope.detach()
  }
}
