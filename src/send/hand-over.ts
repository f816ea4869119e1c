import type { Deadline, Report, SendOutcome } from '../contract/broker.ts'
import type { Envelope } from '../contract/message.ts'
import type { Pending, Via } from './pending.ts'

/** Takes the reports of hand-overs. */
export interface Reported {
  reported(handOver: HandOver, from: number, to: number, outcome: SendOutcome): void
}

/** Envelopes handed over in one send, and who they are by index. */
export class HandOver {
  /** Emptied with the last answer. */
  readonly pendings: Pending[] = []
  readonly via: Via
  /** The earliest of its envelopes' deadlines. */
  readonly deadline: Deadline
  /** Of the connection's breaker, when it was handed over. */
  readonly generation: number
  readonly report: Report
  #envelopes: Envelope[] = []
  #unanswered = 0

  constructor(via: Via, deadline: Deadline, generation: number, owner: Reported) {
    this.via = via
    this.deadline = deadline
    this.generation = generation
    this.report = (from, to, outcome) => owner.reported(this, from, to, outcome)
  }

  /**
   * Whether an envelope of that deadline may share its fate: all of a send end by the earliest
   * deadline, so the others may lose at most a quarter of their time.
   */
  fits(deadline: Deadline, now: number): boolean {
    if (deadline === this.deadline) return true
    return deadline > this.deadline && deadline - this.deadline <= (deadline - now) / 4
  }

  add(pending: Pending): void {
    this.pendings.push(pending)
    this.#envelopes.push(pending.envelope)
    this.#unanswered++
  }

  /**
   * The envelopes, for the one send. This and `answered` let go of everything: the engine may place an
   * object that is made in each turn where it is collected late, and all it holds would stay with it.
   */
  take(): Envelope[] {
    const envelopes = this.#envelopes
    this.#envelopes = []
    return envelopes
  }

  answered(count: number): void {
    this.#unanswered -= count
    if (this.#unanswered === 0) this.pendings.length = 0
  }
}
