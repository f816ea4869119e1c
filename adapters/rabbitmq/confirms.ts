import type { SendOutcome } from '../../src/contract/broker.ts'
import type { Call } from './call.ts'

/** A message on a channel, not answered yet. */
export interface InFlight {
  readonly tag: number
  readonly call: Call
  readonly index: number
}

/** Not reported yet. */
export function isOpen({ call, index }: InFlight): boolean {
  return call.isOpen(index)
}

/** Told of messages of one call that were answered; `instead`: the answer does not mean what it says. */
export type Answered = (call: Call, from: number, to: number, instead: SendOutcome | null) => void

interface Slot extends InFlight {
  readonly bytes: number
  readonly at: number
}

interface Run {
  readonly call: Call
  readonly from: number
  to: number
  readonly instead: SendOutcome | null
}

/**
 * The book of one confirm channel: which message a delivery tag stands for. A ring, since tags are
 * consecutive and answers come nearly in order; the few that are overtaken by a whole ring move to a
 * map, so that a queue without quorum does not stop the others.
 */
export class Confirms {
  readonly #mask: number
  readonly #calls: (Call | null)[]
  readonly #indexes: Int32Array
  readonly #sizes: Int32Array
  readonly #times: Float64Array
  readonly #stragglers = new Map<number, Slot>()
  readonly #instead = new Map<number, SendOutcome>()
  /** No message in the ring has a lower tag. */
  #first = 1
  #next = 1
  #unanswered = 0
  #bytes = 0
  #takenIndex = 0

  /** `window`: how many are unanswered at most. */
  constructor(window: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, window * 2)))
    this.#mask = size - 1
    this.#calls = Array.from({ length: size }, () => null)
    this.#indexes = new Int32Array(size)
    this.#sizes = new Int32Array(size)
    this.#times = new Float64Array(size)
  }

  get unanswered(): number {
    return this.#unanswered
  }

  /** Bytes of the unanswered. */
  get bytes(): number {
    return this.#bytes
  }

  /** The tag of the next message; the broker counts in the same way, from 1. */
  get nextTag(): number {
    return this.#next
  }

  /** When the oldest unanswered one was added; `null` without one. */
  get oldestAt(): number | null {
    for (const { at } of this.#stragglers.values()) return at
    this.#skipAnswered()
    return this.#first < this.#next ? (this.#times[this.#first & this.#mask] as number) : null
  }

  /** A message was written: exactly then, never when writing it threw. */
  add(call: Call, index: number, bytes: number, at: number): void {
    if (this.#next - this.#first > this.#mask) this.#makeRoom()
    const slot = this.#next++ & this.#mask
    this.#calls[slot] = call
    this.#indexes[slot] = index
    this.#sizes[slot] = bytes
    this.#times[slot] = at
    this.#unanswered++
    this.#bytes += bytes
  }

  /** The broker's word for one tag, or for all up to it. Tags that are not open say nothing. */
  settle(tag: number, multiple: boolean, answered: Answered): void {
    if (!multiple) return this.#settleOne(tag, answered)
    const upTo = tag === 0 ? this.#next - 1 : Math.min(tag, this.#next - 1)
    // All are taken out before anybody is told: whoever is told may write, which adds.
    const runs: Run[] = []
    for (const straggler of this.#stragglers.keys()) {
      if (straggler <= upTo) this.#takeInto(runs, straggler)
    }
    for (let each = this.#first; each <= upTo; each++) this.#takeInto(runs, each)
    if (upTo >= this.#first) this.#first = upTo + 1
    for (const { call, from, to, instead } of runs) answered(call, from, to, instead)
  }

  /** The unanswered message with that tag, if there is one. */
  withTag(tag: number): readonly InFlight[] {
    const slot = this.#slotOf(tag)
    return slot === null ? [] : [slot]
  }

  /** Unanswered messages with that id, oldest first. */
  withId(id: unknown): InFlight[] {
    const found: InFlight[] = []
    for (const straggler of this.#stragglers.values()) {
      if (straggler.call.batch[straggler.index]?.id === id) found.push(straggler)
    }
    for (let tag = this.#first; tag < this.#next; tag++) {
      const slot = tag & this.#mask
      const call = this.#calls[slot] ?? null
      const index = this.#indexes[slot] as number
      if (call !== null && call.batch[index]?.id === id) found.push({ tag, call, index })
    }
    return found
  }

  /** When this tag is answered, that is its outcome. */
  insteadOf(tag: number, outcome: SendOutcome): void {
    if (this.#slotOf(tag) !== null) this.#instead.set(tag, outcome)
  }

  /** What an answer to this tag would mean; `null`: what it says. */
  instead(tag: number): SendOutcome | null {
    return this.#instead.get(tag) ?? null
  }

  isUnanswered(tag: number): boolean {
    return this.#slotOf(tag) !== null
  }

  /** Unanswered ones that were added before that instant, oldest first. */
  addedBefore(at: number): InFlight[] {
    return this.#all().filter((slot) => slot.at < at)
  }

  /** All unanswered ones in the order they were written. */
  all(): InFlight[] {
    return this.#all()
  }

  #settleOne(tag: number, answered: Answered): void {
    const call = this.#takeOut(tag)
    if (call === null) return
    const index = this.#takenIndex
    if (tag === this.#first) this.#skipAnswered()
    answered(call, index, index + 1, this.#takeInstead(tag))
  }

  #takeInto(runs: Run[], tag: number): void {
    const call = this.#takeOut(tag)
    if (call === null) return
    const index = this.#takenIndex
    const instead = this.#takeInstead(tag)
    const last = runs.at(-1)
    const goesOn = last?.call === call && last.to === index
    if (goesOn && instead === null && last.instead === null) last.to++
    else runs.push({ call, from: index, to: index + 1, instead })
  }

  /** Returns the call and leaves the index in `#takenIndex`, so that an answer costs no object. */
  #takeOut(tag: number): Call | null {
    if (tag < this.#first) return this.#takeStraggler(tag)
    const slot = tag & this.#mask
    const call = tag < this.#next ? (this.#calls[slot] as Call | null) : null
    if (call === null) return null
    this.#calls[slot] = null
    this.#taken(this.#indexes[slot] as number, this.#sizes[slot] as number)
    return call
  }

  #takeStraggler(tag: number): Call | null {
    const straggler = this.#stragglers.get(tag)
    if (straggler === undefined) return null
    this.#stragglers.delete(tag)
    this.#taken(straggler.index, straggler.bytes)
    return straggler.call
  }

  #taken(index: number, bytes: number): void {
    this.#takenIndex = index
    this.#unanswered--
    this.#bytes -= bytes
  }

  #takeInstead(tag: number): SendOutcome | null {
    if (this.#instead.size === 0) return null
    const outcome = this.instead(tag)
    this.#instead.delete(tag)
    return outcome
  }

  #slotOf(tag: number): Slot | null {
    if (tag < this.#first) return this.#stragglers.get(tag) ?? null
    if (tag >= this.#next) return null
    const slot = tag & this.#mask
    const call = this.#calls[slot] as Call | null
    if (call === null) return null
    return {
      tag,
      call,
      index: this.#indexes[slot] as number,
      bytes: this.#sizes[slot] as number,
      at: this.#times[slot] as number,
    }
  }

  #all(): Slot[] {
    const slots = [...this.#stragglers.values()]
    for (let tag = this.#first; tag < this.#next; tag++) {
      const slot = this.#slotOf(tag)
      if (slot !== null) slots.push(slot)
    }
    return slots
  }

  #skipAnswered(): void {
    while (this.#first < this.#next && this.#calls[this.#first & this.#mask] === null) this.#first++
  }

  #makeRoom(): void {
    this.#skipAnswered()
    if (this.#next - this.#first <= this.#mask) return
    const oldest = this.#slotOf(this.#first) as Slot
    this.#stragglers.set(oldest.tag, oldest)
    this.#calls[oldest.tag & this.#mask] = null
    this.#first++
  }
}
