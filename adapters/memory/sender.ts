import type { Deadline, Report, Sender } from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { FailedKeys } from './failed-keys.ts'
import type { Link } from './link.ts'
import { Part } from './part.ts'
import { behindFailed, notSent, refused, unknown } from './refusals.ts'
import type { Router } from './router.ts'
import type { Fate } from './send-faults.ts'
import type { MemoryServer } from './server.ts'

/** What a sender needs of its connection. */
export interface SenderContext {
  readonly server: MemoryServer
  readonly link: Link
  readonly router: Router
}

/**
 * One way into the broker. What the link takes is stored before `send` returns; the word about it
 * comes in the next turn, one report for a batch.
 */
export class MemorySender implements Sender {
  readonly #context: SenderContext
  readonly #onClosed: () => void
  /** Not written: the link, or a fault of a destination, does not let them through. In order. */
  #waiting: Part[] = []
  /** Written, to be reported in the next turn. */
  #answered: Part[] = []
  /** Written, and the answer is late. */
  readonly #unanswered = new Set<Part>()
  #vanished = false
  #closing: Promise<void> | null = null
  #closed: (() => void) | null = null

  constructor(context: SenderContext, onClosed: () => void) {
    this.#context = context
    this.#onClosed = onClosed
  }

  /** Envelopes handed over and not reported. */
  get unreported(): number {
    const parts = [...this.#waiting, ...this.#answered, ...this.#unanswered]
    return parts.reduce((sum, { from, to }) => sum + to - from, 0)
  }

  send(batch: readonly Envelope[], deadline: Deadline, report: Report): void {
    if (this.#closing !== null) throw new ClosedError('sender')
    if (batch.length === 0 || this.#vanished) return
    const part = new Part(this, batch, { from: 0, to: batch.length }, deadline, report)
    const { server, link } = this.#context
    if (deadline <= server.clock.now()) this.#giveUp(part, 'since its deadline had passed')
    else if (link.writable) this.#write(part)
    else this.#wait(part)
  }

  /** Reports what was answered since the last turn. */
  report(): void {
    const parts = this.#answered
    if (parts.length === 0) return
    this.#answered = []
    for (const part of parts) part.report()
    this.#endIfDone()
  }

  /** The link lets writes through again, or a destination does: writes what waits, in order. */
  resume(): void {
    const parts = this.#waiting
    this.#waiting = []
    for (const part of parts) {
      this.#context.server.timeline.remove(part)
      if (this.#context.link.writable) this.#write(part)
      else this.#wait(part)
    }
  }

  /** Late answers come now, except where a fault still holds them back. */
  answer(): void {
    for (const part of this.#unanswered) {
      if (this.#context.server.faults.answers(part.batch[part.from] as Envelope))
        this.#answers(part)
    }
  }

  /** The link went down: nobody will answer what was written. */
  cut(reason: string): void {
    for (const part of [...this.#unanswered, ...this.#answered]) {
      part.endsAll((envelope) => unknown(envelope, 'connection-lost', reason))
      if (this.#unanswered.has(part)) this.#answers(part)
    }
  }

  /** Told at once: whoever set the deadline waits on a timer of its own, set for a little later. */
  overdue(part: Part): void {
    if (part.state === 'waiting') {
      this.#waiting = this.#waiting.filter((one) => one !== part)
      part.endsAll((envelope) => notSent(envelope, 'by the deadline'))
    } else if (part.answersAt > part.dueAt) {
      part.endsAll((envelope) => unknown(envelope, 'timeout', 'not answered by the deadline'))
    }
    this.#unanswered.delete(part)
    part.report()
    this.#context.server.changed()
    this.#endIfDone()
  }

  /** The end of a process: nothing is reported any more. */
  vanish(): void {
    this.#vanished = true
    for (const part of [...this.#waiting, ...this.#unanswered]) {
      this.#context.server.timeline.remove(part)
    }
    this.#waiting = []
    this.#answered = []
    this.#unanswered.clear()
    this.#endIfDone()
  }

  /** Unsent ones are refused at once; late answers get until the deadline, or their own if that is earlier. */
  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  #close(deadline: Deadline): Promise<void> {
    return new Promise((resolve) => {
      this.#closed = resolve
      for (const part of this.#waiting.splice(0)) {
        this.#context.server.timeline.remove(part)
        this.#giveUp(part, 'when the sender was closed')
      }
      this.#capAnswers(deadline)
      this.#endIfDone()
    })
  }

  /** Late answers get until the deadline of close, if that is earlier than their own. */
  #capAnswers(deadline: Deadline): void {
    const { timeline } = this.#context.server
    for (const part of this.#unanswered) {
      if (part.dueAt <= deadline) continue
      timeline.remove(part)
      part.dueAt = deadline
      timeline.add(part)
    }
  }

  #endIfDone(): void {
    if (this.#closed === null || this.#answered.length > 0 || this.#unanswered.size > 0) return
    this.#closed()
    this.#closed = null
    this.#onClosed()
  }

  #wait(part: Part): void {
    this.#waiting.push(part)
    this.#context.server.timeline.add(part)
  }

  #giveUp(part: Part, why: string): void {
    part.endsAll((envelope) => notSent(envelope, why))
    this.#answers(part)
  }

  /** The outcome is known; it is told in the next turn. */
  #answers(part: Part): void {
    this.#context.server.timeline.remove(part)
    this.#unanswered.delete(part)
    part.state = 'written'
    this.#answered.push(part)
    this.#context.server.turn()
  }

  #write(part: Part): void {
    const failed = new FailedKeys(this.#context.server.capabilities.keyRunsInOneSend)
    if (this.#context.server.faults.active) return this.#writeUnderFaults(part, failed)
    this.#store(part, failed)
    this.#answers(part)
  }

  #store(part: Part, failed: FailedKeys): void {
    const { router } = this.#context
    for (let index = part.from; index < part.to; index++) {
      const envelope = part.batch[index] as Envelope
      const outcome = failed.has(envelope) ? behindFailed(envelope) : router.store(envelope)
      if (outcome === CONFIRMED) continue
      if (outcome.status !== 'confirmed') failed.add(envelope)
      part.ends(index, outcome)
    }
  }

  /** One by one, since each may meet another fate. */
  #writeUnderFaults(part: Part, failed: FailedKeys): void {
    const { faults } = this.#context.server
    for (const index of faults.order(part.from, part.to)) {
      const fate = faults.fateOf(part.batch[index] as Envelope)
      this.#meet(part.slice(index, index + 1), fate, failed)
    }
  }

  #meet(part: Part, fate: Fate, failed: FailedKeys): void {
    const envelope = part.batch[part.from] as Envelope
    if (failed.has(envelope)) {
      part.ends(part.from, behindFailed(envelope))
      return this.#answers(part)
    }
    switch (fate.kind) {
      case 'unwritten':
        return this.#wait(part)
      case 'refuse':
        part.ends(part.from, refused(envelope, fate.code, 'refused on purpose', fate.retryable))
        break
      case 'unknown':
        if (fate.stored) this.#store(part, failed)
        part.endsAll((one) => unknown(one, 'unanswered', 'the answer was lost on purpose'))
        break
      case 'store':
        this.#store(part, failed)
        break
      case 'late':
        this.#store(part, failed)
        return this.#answersLate(part, fate.ms)
    }
    if (part.failed) failed.add(envelope)
    this.#answers(part)
  }

  #answersLate(part: Part, ms: number): void {
    const { clock, timeline } = this.#context.server
    part.state = 'written'
    part.answersAt = clock.now() + ms
    part.dueAt = Math.min(part.answersAt, part.deadline)
    this.#unanswered.add(part)
    timeline.add(part)
  }
}
