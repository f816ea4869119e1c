import type { Clock } from '../../src/contract/clock.ts'
import type { RabbitmqDelivery } from './delivery.ts'

/** Writes settles to one channel. Each throws when the channel takes nothing any more. */
export interface SettleWriter {
  /** `multiple`: this one and every earlier one of the channel that is not settled. */
  ack(tag: number, multiple: boolean): void
  /** Gives back without counting a failure. */
  nack(tag: number): void
  /** Gives back and counts a failure. */
  reject(tag: number): void
}

/**
 * What was handed over on one channel and is not settled there, in the order of its tags. Settles are
 * written once per turn of the event loop; acks of a run without gaps are one frame.
 */
export class Settles {
  readonly #writer: SettleWriter
  readonly #clock: Clock
  /** A tag was left out: a delivery that never came is still open, and must not be settled with others. */
  #hasGap = false
  #newest = 0
  #first: RabbitmqDelivery | null = null
  #last: RabbitmqDelivery | null = null
  #acked: RabbitmqDelivery[] = []
  #givenBack: RabbitmqDelivery[] = []
  #scheduled = false
  #held = 0
  #kept = 0
  #written = 0
  #confirmed = 0
  #writtenAt = Number.NEGATIVE_INFINITY
  #closed = false

  constructor(writer: SettleWriter, clock: Clock) {
    this.#writer = writer
    this.#clock = clock
  }

  /** Handed over and not decided. */
  get held(): number {
    return this.#held
  }

  /** Grows with what is handed over. */
  get handed(): number {
    return this.#newest
  }

  /** Given back with the end of the channel. */
  get kept(): number {
    return this.#kept
  }

  /** Decided and not known to be at the broker. */
  get unconfirmed(): number {
    return this.#acked.length + this.#givenBack.length + this.#written - this.#confirmed
  }

  /** When one was written last, on the clock. */
  get writtenAt(): number {
    return this.#writtenAt
  }

  /** It is handed over now; tags only ever grow. */
  hold(delivery: RabbitmqDelivery): void {
    this.#held++
    if (delivery.tag !== this.#newest + 1) this.#hasGap = true
    this.#newest = delivery.tag
    delivery.previous = this.#last
    if (this.#last === null) this.#first = delivery
    else this.#last.next = delivery
    this.#last = delivery
  }

  /** Its `state` was set to how; written with the others of this turn. */
  add(delivery: RabbitmqDelivery): void {
    this.#held--
    if (delivery.state === 'ack') this.#acked.push(delivery)
    else this.#givenBack.push(delivery)
    if (this.#scheduled) return
    this.#scheduled = true
    this.#clock.defer(() => {
      this.#scheduled = false
      this.write()
    })
  }

  /** It is given back, but by the end of the channel only: until then it stays open at the broker. */
  keep(): void {
    this.#held--
    this.#kept++
  }

  /** Writes what is decided; what the channel does not take stays undone. Does not throw. */
  write(): void {
    if (this.#closed || this.#acked.length + this.#givenBack.length === 0) return
    this.#writtenAt = this.#clock.now()
    try {
      // First, or an ack of a whole run would settle them too.
      this.#writeGivenBack()
      this.#writeAcked()
    } catch {
      // The channel has ended and whoever owns it is being told.
      this.#closed = true
      this.#acked = this.#acked.filter(isUnwritten)
      this.#givenBack = this.#givenBack.filter(isUnwritten)
    }
  }

  /** How far a round trip begun now will confirm. */
  get mark(): number {
    return this.#written
  }

  /** Everything written before that mark is at the broker. */
  confirm(mark: number): void {
    this.#confirmed = Math.max(this.#confirmed, mark)
  }

  /** The channel is gone: takes everything out that was not decided. */
  abandon(): readonly RabbitmqDelivery[] {
    this.#closed = true
    const held: RabbitmqDelivery[] = []
    for (let one = this.#first; one !== null; one = one.next) {
      if (one.state === 'held') held.push(one)
    }
    for (const one of held) one.state = 'abandoned'
    this.#first = this.#last = null
    this.#held = 0
    return held
  }

  #writeGivenBack(): void {
    if (this.#givenBack.length === 0) return
    for (const delivery of this.#givenBack) {
      if (delivery.state === 'retry') this.#writer.reject(delivery.tag)
      else this.#writer.nack(delivery.tag)
      this.#remove(delivery)
    }
    this.#givenBack = []
  }

  #writeAcked(): void {
    if (this.#acked.length === 0) return
    this.#writeRun()
    for (const delivery of this.#acked) {
      if (delivery.state === 'done') continue
      this.#writer.ack(delivery.tag, false)
      this.#remove(delivery)
    }
    this.#acked = []
  }

  /** The oldest ones, as far as they are all acknowledged. */
  #writeRun(): void {
    if (this.#hasGap) return
    let last: RabbitmqDelivery | null = null
    for (let one = this.#first; one !== null && one.state === 'ack'; one = one.next) last = one
    if (last === null) return
    this.#writer.ack(last.tag, last !== this.#first)
    const { tag } = last
    while (this.#first !== null && this.#first.tag <= tag) this.#remove(this.#first)
  }

  #remove(delivery: RabbitmqDelivery): void {
    const { previous, next } = delivery
    if (previous === null) this.#first = next
    else previous.next = next
    if (next === null) this.#last = previous
    else next.previous = previous
    delivery.previous = delivery.next = null
    delivery.state = 'done'
    this.#written++
  }
}

function isUnwritten({ state }: RabbitmqDelivery): boolean {
  return state !== 'done'
}
