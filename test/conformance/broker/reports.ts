import type { Deadline, Report, Sender, SendOutcome } from '../../../src/contract/broker.ts'
import type { Envelope } from '../../../src/contract/message.ts'

/**
 * Watches one `Sender.send`: keeps the outcomes and writes down every breach of the rules for
 * `report` (once per envelope, inside the batch, never before send() returned, never after close()).
 */
export class WatchedSend {
  readonly outcomes: (SendOutcome | undefined)[]
  readonly breaches: string[] = []
  #returned = false
  #closed = false
  #open: number

  constructor(sender: Sender, batch: readonly Envelope[], deadline: Deadline) {
    this.outcomes = Array.from({ length: batch.length })
    this.#open = batch.length
    const report: Report = (from, to, outcome) => this.#report(from, to, outcome)
    sender.send(batch, deadline, report)
    this.#returned = true
  }

  /** Envelopes without an outcome yet. */
  get open(): number {
    return this.#open
  }

  /** To be called when the sender's close() has resolved. */
  senderClosed(): void {
    this.#closed = true
    if (this.#open > 0) this.breaches.push(`close() left ${this.#open} envelopes without a report`)
  }

  #report(from: number, to: number, outcome: SendOutcome): void {
    if (!this.#returned) this.breaches.push(`reported ${from}..${to} before send() returned`)
    if (this.#closed) this.breaches.push(`reported ${from}..${to} after close() resolved`)
    if (!(from >= 0 && from < to && to <= this.outcomes.length)) {
      this.breaches.push(`reported ${from}..${to} of a batch of ${this.outcomes.length}`)
    }
    for (let index = Math.max(from, 0); index < Math.min(to, this.outcomes.length); index++) {
      this.#settle(index, outcome)
    }
  }

  #settle(index: number, outcome: SendOutcome): void {
    if (this.outcomes[index] !== undefined) {
      this.breaches.push(`reported envelope ${index} twice`)
      return
    }
    this.outcomes[index] = outcome
    this.#open--
  }
}
