import {
  CONFIRMED,
  type Deadline,
  type Report,
  type SendOutcome,
} from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { Watched } from '../../src/policy/deadline-watch.ts'
import { NOT_CONFIRMED, NOT_WRITTEN } from './outcomes.ts'

/** Where one envelope of a call is. `held`: its end is known and told in the next turn. */
const QUEUED = 0
const WRITTEN = 1
const HELD = 2
const ENDED = 3

/** Who wants to know how calls end. */
export interface CallOwner {
  /** All its envelopes were reported. */
  ended(call: Call): void
  /** The broker's word about one that was reported at its deadline. */
  late(call: Call, index: number, outcome: SendOutcome): void
  /** Its deadline passed; its envelopes may still stand in queues. */
  expired(call: Call): void
}

/** One call of `send`: what of it is open, and how it is reported, each envelope exactly once. */
export class Call extends Watched {
  readonly batch: readonly Envelope[]
  readonly #report: Report
  readonly #owner: CallOwner
  readonly #states: Uint8Array
  /** Of keys of which one did not end confirmed: which one, the first. */
  #failed: Map<string, number> | null = null
  #left: number

  constructor(batch: readonly Envelope[], deadline: Deadline, report: Report, owner: CallOwner) {
    super(deadline)
    this.batch = batch
    this.#report = report
    this.#owner = owner
    this.#states = new Uint8Array(batch.length)
    this.#left = batch.length
  }

  /** All of it is reported. */
  get isOver(): boolean {
    return this.#left === 0
  }

  /** Neither reported nor about to be. */
  isOpen(index: number): boolean {
    return (this.#states[index] as number) < HELD
  }

  /** One of its key, before it in this call, did not end confirmed: it must not be written. */
  isBehindFailed(index: number): boolean {
    if (this.#failed === null) return false
    const key = (this.batch[index] as Envelope).orderKey
    return key !== null && (this.#failed.get(key) ?? Number.POSITIVE_INFINITY) < index
  }

  wrote(index: number): void {
    this.#states[index] = WRITTEN
  }

  /** It turned out that it certainly was not written: it may be again. */
  unwrite(index: number): void {
    if (this.#states[index] === WRITTEN) this.#states[index] = QUEUED
  }

  /** Its end is known and told by `tellHeld`, which the owner calls in a later turn. */
  hold(index: number, outcome: SendOutcome): void {
    if (outcome.status !== 'confirmed') this.#fail(index)
    this.#states[index] = HELD
  }

  tellHeld(index: number, outcome: SendOutcome): void {
    if (this.#states[index] !== HELD) return
    this.#states[index] = QUEUED
    this.end(index, index + 1, outcome)
  }

  /** Confirmed without a place. */
  confirm(index: number): void {
    this.end(index, index + 1, CONFIRMED)
  }

  /** Reports those of the range that are open, in as few ranges as there are. */
  end(from: number, to: number, outcome: SendOutcome): void {
    let start = from
    for (let index = from; index < to; index++) {
      if (this.isOpen(index)) {
        this.#states[index] = ENDED
        if (outcome.status !== 'confirmed') this.#fail(index)
      } else {
        this.#tell(start, index, outcome)
        start = index + 1
        if (this.#states[index] === ENDED) this.#owner.late(this, index, outcome)
      }
    }
    this.#tell(start, to, outcome)
  }

  /** Its deadline: what was written may be stored, what was not never will be. */
  override onDue(): void {
    this.giveUp(NOT_WRITTEN, NOT_CONFIRMED)
    this.#owner.expired(this)
  }

  /** Ends everything that is open, by whether it was written. */
  giveUp(unwritten: SendOutcome, written: SendOutcome): void {
    const states = this.#states
    let from = 0
    for (let index = 1; index <= states.length; index++) {
      if (states[index] === states[from]) continue
      if (states[from] === QUEUED) this.end(from, index, unwritten)
      else if (states[from] === WRITTEN) this.end(from, index, written)
      from = index
    }
  }

  /** Ends what was not written; what was is waited for. */
  refuseUnwritten(outcome: SendOutcome): void {
    for (let index = 0; index < this.#states.length; index++) {
      if (this.#states[index] === QUEUED) this.end(index, index + 1, outcome)
    }
  }

  #fail(index: number): void {
    const key = (this.batch[index] as Envelope).orderKey
    if (key === null) return
    this.#failed ??= new Map()
    this.#failed.set(key, Math.min(index, this.#failed.get(key) ?? index))
  }

  #tell(from: number, to: number, outcome: SendOutcome): void {
    if (from >= to) return
    this.#left -= to - from
    if (this.#left === 0) this.#owner.ended(this)
    this.#report(from, to, outcome)
  }
}
