import type { Deadline, Receiver } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import { HoldfastError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { withDeadline } from '../policy/deadline.ts'
import type { Session } from '../send/session.ts'
import { asError } from './failure.ts'
import type { Parts } from './parts.ts'
import type { Pauses } from './pauses.ts'

/** What is shut down. */
export interface Live {
  readonly session: Session
  readonly parts: Parts
  readonly receiver: Receiver
  readonly pauses: Pauses
  /** Ends everything that would be tried again. */
  readonly stopping: AbortController
  readonly group: string
  readonly clock: Clock
  readonly emit: Emit
}

/**
 * Shuts a consumer down once, in the one safe order: nothing new starts; what runs finishes or is
 * aborted; what has not started goes back; settles are flushed; then the receiver goes. Every step is
 * bounded by the deadline and none of them keeps the next from happening.
 */
export class ShutDown {
  readonly #live: Live
  readonly #hurried: Promise<void>
  #hurry: () => void = () => undefined
  #deadline: Deadline

  constructor(live: Live, deadline: Deadline) {
    this.#live = live
    this.#deadline = deadline
    this.#hurried = new Promise((resolve) => {
      this.#hurry = resolve
    })
  }

  /** No more waiting for handlers, and an earlier end. */
  hurry(deadline: Deadline): void {
    this.#deadline = Math.min(this.#deadline, deadline)
    this.#hurry()
  }

  async run(): Promise<void> {
    const { parts, pauses, receiver, session, group } = this.#live
    pauses.hold('stopping')
    parts.pump.shut()
    await this.#until(0.75, 'handlers', () => Promise.race([parts.idle.wait(), this.#hurried]))
    this.#abort(new HoldfastError('aborted', `the consumer of group "${group}" is shutting down`))
    await this.#until(0.5, 'aborted handlers', () => parts.idle.wait())
    await this.#step(0.5, 'sending', (deadline) => parts.dispatcher.close(deadline))
    this.#giveBack()
    await this.#step(0.5, 'flushing settles', (deadline) => receiver.flush(deadline))
    await this.#step(0.5, 'stopping the receiver', (deadline) => receiver.stop(deadline))
    await this.#step(0.7, 'closing the receiver', (deadline) => receiver.close(deadline))
    parts.close()
    await this.#step(1, 'leaving the broker', (deadline) => session.leave(deadline))
  }

  /** Handlers are told to give up; what would be tried again is given back instead. */
  #abort(reason: Error): void {
    const { parts, stopping } = this.#live
    for (const assignment of parts.holdings.assignments) {
      assignment.leaving = true
      for (const held of [...assignment.held]) held.execution?.abort(reason)
    }
    stopping.abort(reason)
  }

  /** Everything that no handler has: those that ignore their signal keep theirs, the broker takes it back. */
  #giveBack(): void {
    const { intake, holdings } = this.#live.parts
    intake.close()
    for (const assignment of holdings.assignments) holdings.giveBackWaiting(assignment)
  }

  /** Waits for a share of the time that is left, and goes on in any case. */
  async #until(share: number, what: string, work: () => Promise<void>): Promise<void> {
    await withDeadline(this.#live.clock, this.#share(share), work, what).catch(() => undefined)
  }

  async #step(
    share: number,
    what: string,
    work: (deadline: Deadline) => Promise<void>,
  ): Promise<void> {
    const { clock, emit } = this.#live
    const deadline = this.#share(share)
    try {
      await withDeadline(clock, deadline, () => work(deadline), what)
    } catch (thrown) {
      emit({ type: 'settle.failed', count: 1, error: asError(thrown) })
    }
  }

  #share(share: number): Deadline {
    const now = this.#live.clock.now()
    return now + Math.max(0, this.#deadline - now) * share
  }
}
