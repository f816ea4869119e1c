import type { Deadline, DeliverySink } from '../../src/contract/broker.ts'
import type { Capabilities, Ordering } from '../../src/contract/capabilities.ts'
import type { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { type HeldList, type Holder, MemoryDelivery, RetryableDelivery } from './delivery.ts'
import type { HoldTimer } from './hold-timer.ts'
import { laneOf } from './lane-of.ts'
import { type Entry, firstAttempt, handledBefore, type Queue } from './queue.ts'
import { fromWire } from './wire-headers.ts'

/** The receiver as its sources see it. */
export interface Intake {
  readonly ordering: Ordering
  readonly sink: DeliverySink
  readonly emit: Emit
  /** May one more message of that size be handed over? Remembers that somebody asked in vain. */
  hasRoom(bytes: number): boolean
  takes(source: Assignment): boolean
  took(bytes: number): void
  gave(bytes: number): void
  /** A settle did not reach the broker. */
  missed(): void
  /** Asks to finish what these sources have; resolves when that is done or the deadline has come. */
  yields(sources: readonly Assignment[], deadline: Deadline): Promise<void>
  /** What it reads from is gone. */
  end(error: HoldfastError): void
}

/** Where an assignment gives back what it does not finish. */
export interface Origin {
  readonly queue: Queue
  readonly capabilities: Capabilities
  readonly encodesHeaders: boolean
  /** The message is finished, or is somewhere else now. */
  forgotten(delivery: MemoryDelivery, source: Assignment): void
  giveBack(entry: Entry): void
  giveBackLater(entry: Entry, delayMs: number): void
  /** Whether the broker misses this settle: a fault asked for by a test. */
  missesSettle(): boolean
  /** Null where deliveries may be held for ever. */
  holdTimer(source: Assignment): HoldTimer | null
}

/** One queue as one receiver has it, from its assignment until it is lost. */
export class Assignment implements Holder {
  readonly name: string
  readonly epoch: number
  readonly #origin: Origin
  readonly #intake: Intake
  readonly #list: HeldList = { first: null, last: null }
  readonly #kind: typeof MemoryDelivery
  #state: 'active' | 'revoking' | 'lost' = 'active'
  readonly #holdTimer: HoldTimer | null
  #held = 0

  constructor(epoch: number, origin: Origin, intake: Intake) {
    this.name = origin.queue.name
    this.epoch = epoch
    this.#origin = origin
    this.#intake = intake
    this.#kind = origin.capabilities.retryDelay === 'native' ? RetryableDelivery : MemoryDelivery
    this.#holdTimer = origin.holdTimer(this)
  }

  get intake(): Intake {
    return this.#intake
  }

  get state(): 'active' | 'revoking' | 'lost' {
    return this.#state
  }

  /** Handed over and not settled. */
  get held(): number {
    return this.#held
  }

  /** Not finished as far as the broker knows, held or not. */
  get unfinished(): number {
    return this.remembered.filter((delivery) => !delivery.finished).length
  }

  /** The delivery that is held longest. */
  get oldestHeld(): MemoryDelivery | undefined {
    for (let next = this.#list.first; next !== null; next = MemoryDelivery.after(next)) {
      if (next.held) return next
    }
    return undefined
  }

  /** Deliveries the broker has to remember: held ones, and finished ones behind a held one. */
  get remembered(): readonly MemoryDelivery[] {
    return MemoryDelivery.all(this.#list)
  }

  /** Whether a message of that size may be handed over here now. */
  canTake(bytes: number): boolean {
    if (this.#state !== 'active' || !this.#intake.takes(this)) return false
    const bound = this.#origin.capabilities.hold.maxMessages
    return this.#intake.hasRoom(this.#held < bound ? bytes : Infinity)
  }

  /** Makes the delivery of the queue's next message, which must be there. */
  takeNext(): MemoryDelivery {
    const { queue } = this.#origin
    const back = queue.takeReturned()
    if (back !== undefined) return this.take(back)
    const seq = queue.freshSeq
    const envelope = queue.takeFresh() as Envelope
    const attempt = firstAttempt(envelope)
    return this.#hold(envelope, seq, attempt, handledBefore(envelope, attempt))
  }

  take({ envelope, seq, attempt, redelivered }: Entry): MemoryDelivery {
    return this.#hold(envelope, seq, attempt, redelivered)
  }

  #hold(
    envelope: Envelope,
    seq: number,
    attempt: number,
    redelivered: 'no' | 'maybe' | 'yes',
  ): MemoryDelivery {
    const read = this.#origin.encodesHeaders ? fromWire(envelope) : envelope
    const laned = laneOf(read, this.#intake.ordering, this.name)
    const delivery = new this.#kind(laned, this, seq, attempt, redelivered)
    MemoryDelivery.link(this.#list, delivery)
    this.#held++
    this.#intake.took(delivery.bytes)
    this.#holdTimer?.handedOver(delivery)
    return delivery
  }

  deliver(batch: readonly MemoryDelivery[]): void {
    if (this.#state !== 'lost') this.#intake.sink.deliver(this, batch)
  }

  /** Finished; where progress is one position, it counts once everything before it is. */
  acked(delivery: MemoryDelivery): void {
    this.#gone(delivery)
    if (this.#misses()) return
    delivery.finish()
    if (this.#origin.capabilities.progress.outOfOrder === 'any') this.#forget(delivery)
    else this.#forgetPrefix()
  }

  /** Given back without an attempt: at once to the queue, in a log to the next owner. */
  released(delivery: MemoryDelivery): void {
    this.#gone(delivery)
    if (this.#misses()) return
    // A log remembers positions, not messages: what is not done there comes to the next owner.
    if (this.#origin.capabilities.progress.outOfOrder !== 'any') return
    this.#forget(delivery)
    this.#origin.giveBack(again(delivery, delivery.attempt))
  }

  /** Back in its place after the delay, one attempt higher where anybody counts. */
  retried(delivery: MemoryDelivery, delayMs: number): void {
    this.#gone(delivery)
    if (this.#misses()) return
    delivery.finish()
    const counts = this.#origin.capabilities.attemptCount !== 'none'
    const entry = again(delivery, delivery.attempt + (counts ? 1 : 0))
    if (this.#origin.capabilities.progress.outOfOrder === 'any') this.#forget(delivery)
    else this.#forgetPrefix()
    this.#origin.giveBackLater(entry, delayMs)
  }

  #misses(): boolean {
    const misses = this.#origin.missesSettle()
    if (misses) this.#intake.missed()
    return misses
  }

  stale(): void {
    const { emit } = this.#intake
    if (emit.wants('settle.stale')) emit({ type: 'settle.stale', source: this.name, count: 1 })
  }

  /** No more deliveries; what is held may still be settled. */
  revoke(): void {
    if (this.#state === 'active') this.#state = 'revoking'
  }

  /** Everything unfinished goes back to its place; later settles are stale. */
  lose(): void {
    if (this.#state === 'lost') return
    this.#state = 'lost'
    this.#holdTimer?.stop()
    this.takeBack()
  }

  /** Everything unfinished goes back to its place, as after a lost connection. */
  takeBack(): void {
    const { outOfOrder, maxHoles } = this.#origin.capabilities.progress
    let holes = 0
    for (const delivery of this.remembered) {
      if (delivery.held) this.#gone(delivery)
      if (!delivery.finished) holes++
      const done = delivery.finished && outOfOrder !== 'none' && holes <= maxHoles
      if (!delivery.finished) delivery.takeBack()
      this.#forget(delivery)
      if (!done) this.#origin.giveBack(again(delivery, delivery.attempt))
    }
  }

  #gone(delivery: MemoryDelivery): void {
    this.#held--
    this.#intake.gave(delivery.bytes)
  }

  #forget(delivery: MemoryDelivery): void {
    MemoryDelivery.unlink(this.#list, delivery)
    if (this.#list.first === null) this.#holdTimer?.stop()
    this.#origin.forgotten(delivery, this)
  }

  /** A contiguous run of finished deliveries at the front is one position to remember. */
  #forgetPrefix(): void {
    for (let next = this.#list.first; next?.finished === true; next = this.#list.first) {
      this.#forget(next)
    }
  }
}

function again({ seq, envelope }: MemoryDelivery, attempt: number): Entry {
  return { seq, envelope, attempt, redelivered: 'yes', place: -1 }
}
