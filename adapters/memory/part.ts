import type { Deadline, Report, SendOutcome } from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Due } from './timeline.ts'

/** Told when a part that waits has come to its deadline. */
export interface PartOwner {
  overdue(part: Part): void
}

/** A contiguous part of one send that shares its fate in time: written at once, answered at once. */
export class Part implements Due {
  readonly batch: readonly Envelope[]
  readonly from: number
  readonly to: number
  readonly deadline: Deadline
  dueAt: number
  /** When the answer comes by itself; Infinity when it does not. */
  answersAt: number = Infinity
  order = 0
  place = -1
  /** waiting: not written. written: stored or not, and nobody was told. */
  state: 'waiting' | 'written' | 'reported' = 'waiting'
  readonly #owner: PartOwner
  readonly #report: Report
  /** By index from `from`; null while all of them are confirmed. */
  #outcomes: SendOutcome[] | null = null

  constructor(
    owner: PartOwner,
    batch: readonly Envelope[],
    range: { readonly from: number; readonly to: number },
    deadline: Deadline,
    report: Report,
  ) {
    this.#owner = owner
    this.batch = batch
    this.from = range.from
    this.to = range.to
    this.deadline = deadline
    this.dueAt = deadline
    this.#report = report
  }

  /** A part of the same send with its own fate. */
  slice(from: number, to: number): Part {
    return new Part(this.#owner, this.batch, { from, to }, this.deadline, this.#report)
  }

  /** Some of it ended other than confirmed. */
  get failed(): boolean {
    return this.#outcomes?.some(({ status }) => status !== 'confirmed') ?? false
  }

  due(): void {
    this.#owner.overdue(this)
  }

  /** Notes the outcome of one envelope of the batch. */
  ends(index: number, outcome: SendOutcome): void {
    if (this.#outcomes === null) {
      if (outcome === CONFIRMED) return
      this.#outcomes = new Array<SendOutcome>(this.to - this.from).fill(CONFIRMED)
    }
    this.#outcomes[index - this.from] = outcome
  }

  /** Notes outcomes for all that would else be told as confirmed. */
  endsAll(outcomeOf: (envelope: Envelope) => SendOutcome): void {
    for (let index = this.from; index < this.to; index++) {
      const noted = this.#outcomes?.[index - this.from] ?? CONFIRMED
      if (noted.status === 'confirmed') this.ends(index, outcomeOf(this.batch[index] as Envelope))
    }
  }

  /** Tells the outcomes, one call for each run of equal ones; once. */
  report(): void {
    if (this.state === 'reported') return
    this.state = 'reported'
    const outcomes = this.#outcomes
    if (outcomes === null) return this.#report(this.from, this.to, CONFIRMED)
    for (let at = 0; at < outcomes.length;) {
      const outcome = outcomes[at] as SendOutcome
      let end = at + 1
      while (outcomes[end] === outcome) end++
      this.#report(this.from + at, this.from + end, outcome)
      at = end
    }
  }
}
