import type {
  Deadline,
  Delivery,
  DeliverySink,
  Receiver,
  Source,
} from '../../../src/contract/broker.ts'
import type { Clock } from '../../../src/contract/clock.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { copied } from './envelopes.ts'

/** A delivery with a copy of its envelope that outlives the settling. */
export interface Received {
  readonly delivery: Delivery
  readonly envelope: Envelope
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
  /** The clock's `now()` when it came. */
  readonly atMs: number
}

/** What a listener does with each delivery at once; without it, deliveries are held. */
export type OnReceived = (received: Received) => void

/** What a listener does while sources are asked back, which are its own until it has resolved. */
export type OnRevoking = (sources: readonly Source[]) => Promise<void>

/** A delivery sink that keeps what it is given and writes down every breach of the receiver's rules. */
export class Listener implements DeliverySink {
  readonly received: Received[] = []
  readonly lostSources: Source[] = []
  readonly ends: (HoldfastError | undefined)[] = []
  readonly breaches: string[] = []
  /** Deliveries not settled through this listener yet. */
  readonly held: Set<Received> = new Set<Received>()
  #receiver: Receiver | null = null
  #quiet = false
  readonly #clock: Clock
  readonly #onReceived: OnReceived
  readonly #onRevoking: OnRevoking | undefined

  /** Unless told otherwise, it releases what it holds of sources that are asked back. */
  constructor(clock: Clock, onReceived: OnReceived, onRevoking?: OnRevoking) {
    this.#clock = clock
    this.#onReceived = onReceived
    this.#onRevoking = onRevoking
  }

  get receiver(): Receiver {
    if (this.#receiver === null) throw new Error('the receiver is not there yet')
    return this.#receiver
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver
  }

  /** All bodies in the order they came, as text. */
  get bodies(): readonly string[] {
    const decoder = new TextDecoder()
    return this.received.map(({ envelope }) =>
      envelope.body === null ? '(tombstone)' : decoder.decode(envelope.body),
    )
  }

  /** Settles through `how` and forgets that it was held. */
  settle(received: Received, how: (delivery: Delivery) => void): void {
    this.held.delete(received)
    how(received.delivery)
  }

  ack(received: Received): void {
    this.settle(received, (delivery) => delivery.ack())
  }

  async stop(deadline: Deadline): Promise<void> {
    await this.receiver.stop(deadline)
    this.#quiet = true
  }

  async close(deadline: Deadline): Promise<void> {
    await this.receiver.close(deadline)
    this.#quiet = true
  }

  deliver(source: Source, batch: readonly Delivery[]): void {
    if (this.#quiet) this.breaches.push('delivered after stop() or close() resolved')
    if (this.ends.length > 0) this.breaches.push('delivered after ended()')
    if (this.lostSources.includes(source)) this.breaches.push('delivered from a lost source')
    for (const delivery of batch) this.#take(source, delivery)
  }

  revoking(sources: readonly Source[]): Promise<void> {
    if (this.#onRevoking !== undefined) return this.#onRevoking(sources)
    for (const received of this.held) {
      if (sources.includes(received.delivery.source)) this.settle(received, (one) => one.release())
    }
    return Promise.resolve()
  }

  lost(sources: readonly Source[]): void {
    this.lostSources.push(...sources)
    for (const received of this.held) {
      if (sources.includes(received.delivery.source)) this.held.delete(received)
    }
  }

  ended(error?: HoldfastError): void {
    if (this.ends.length > 0) this.breaches.push('ended() was called twice')
    this.ends.push(error)
  }

  #take(source: Source, delivery: Delivery): void {
    if (delivery.source !== source) this.breaches.push(`a delivery of ${source.name} names another`)
    if (!(delivery.attempt >= 1)) this.breaches.push(`attempt ${delivery.attempt} is below 1`)
    const received: Received = {
      delivery,
      envelope: copied(delivery.envelope),
      attempt: delivery.attempt,
      redelivered: delivery.redelivered,
      atMs: this.#clock.now(),
    }
    this.received.push(received)
    this.held.add(received)
    this.#onReceived(received)
  }
}
