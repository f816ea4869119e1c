import {
  CONFIRMED,
  type Deadline,
  type Report,
  type SendOutcome,
} from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { Watched } from '../../src/policy/deadline-watch.ts'
import { NOT_CONFIRMED, NOT_WRITTEN } from './outcomes.ts'

/** Where one envelope of a call is. `held`: refused, to be told in the next turn. */
const QUEUED = 0
const WRITTEN = 1
const HELD = 2
const ENDED = 3

/** Confirmed, after an earlier write that may have been stored too. */
const CONFIRMED_AGAIN: SendOutcome = Object.freeze({
  status: 'confirmed',
  possiblyDuplicated: true,
})

/** Who wants to know how calls end. */
export interface CallOwner {
  /** All its envelopes were reported. */
  ended(call: Call): void
  /** The broker's word about one that was reported at its deadline. */
  late(call: Call, index: number, outcome: SendOutcome): void
}

/** One call of `send`: what of it is open, and how it is reported, each envelope exactly once. */
export class Call extends Watched {
  readonly batch: readonly Envelope[]
  readonly #report: Report
  readonly #owner: CallOwner
  readonly #states: Uint8Array
  /** Indexes that were written before on a channel that was killed since. */
  #doubtful: Set<number> | null = null
  #left: number
  /** The first one not looked at for writing. */
  cursor = 0

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

  wrote(index: number): void {
    this.#states[index] = WRITTEN
  }

  /** It turned out that the broker never read it. */
  unwrite(index: number): void {
    if (this.#states[index] === WRITTEN) this.#states[index] = QUEUED
  }

  /** Whoever writes it again does not know whether it was stored before. */
  doubt(index: number): void {
    this.#doubtful ??= new Set()
    this.#doubtful.add(index)
  }

  isDoubtful(index: number): boolean {
    return this.#doubtful?.has(index) ?? false
  }

  /** Its end is known and told by `tellHeld`, which the owner calls in a later turn. */
  hold(index: number): void {
    this.#states[index] = HELD
  }

  tellHeld(index: number, outcome: SendOutcome): void {
    if (this.#states[index] !== HELD) return
    this.#states[index] = QUEUED
    this.end(index, index + 1, outcome)
  }

  confirm(from: number, to: number): void {
    if (this.#doubtful === null) return this.end(from, to, CONFIRMED)
    for (let index = from; index < to; index++) {
      this.end(index, index + 1, this.isDoubtful(index) ? CONFIRMED_AGAIN : CONFIRMED)
    }
  }

  /** Reports those of the range that are open, in as few ranges as there are. */
  end(from: number, to: number, outcome: SendOutcome): void {
    let start = from
    for (let index = from; index < to; index++) {
      if (this.isOpen(index)) this.#states[index] = ENDED
      else {
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
  }

  /** Ends everything that is open, by whether it was written. */
  giveUp(unwritten: SendOutcome, written: SendOutcome): void {
    const states = this.#states
    let from = 0
    for (let index = 1; index <= states.length; index++) {
      if (states[index] === states[from]) continue
      if (states[from] === QUEUED)
        this.end(from, index, this.isDoubtful(from) ? written : unwritten)
      else if (states[from] === WRITTEN) this.end(from, index, written)
      from = index
    }
  }

  /** Ends what was not written; what was is waited for. */
  refuseUnwritten(outcome: SendOutcome): void {
    for (let index = 0; index < this.#states.length; index++) {
      const isUnwritten = this.#states[index] === QUEUED && !this.isDoubtful(index)
      if (isUnwritten) this.end(index, index + 1, outcome)
    }
  }

  #tell(from: number, to: number, outcome: SendOutcome): void {
    if (from >= to) return
    this.#left -= to - from
    if (this.#left === 0) this.#owner.ended(this)
    this.#report(from, to, outcome)
  }
}
