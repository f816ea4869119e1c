import type { Deadline } from '../../src/contract/broker.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { ChannelEnding } from './channel-ending.ts'
import type { ChannelParts } from './channel-parts.ts'

/**
 * Gives the place of an active consumer to whoever waits next for it: nothing more is handed over, what
 * was is settled, and then the channel is closed, whereupon the queue takes back what only came here and
 * goes on with it at the next one, in its order.
 */
export class HandOver {
  readonly #parts: ChannelParts
  readonly #ending: ChannelEnding
  #isGoing = false
  #settled: () => void = () => undefined

  constructor(parts: ChannelParts, ending: ChannelEnding) {
    this.#parts = parts
    this.#ending = ending
  }

  /** Nothing may be handed over meanwhile. */
  get isGoing(): boolean {
    return this.#isGoing
  }

  /** Called when nothing of the channel is held any more, and when it has ended. */
  nothingHeld(): void {
    this.#settled()
  }

  /**
   * Whether the place was given up, which takes until everything handed over is settled; when it is not
   * by the deadline, the channel goes on as it was. Never rejects.
   */
  async by(deadline: Deadline): Promise<boolean> {
    if (this.#isGoing || !this.#ending.isOpen || this.#ending.isLeaving) return false
    this.#isGoing = true
    if (!(await this.#allSettled(deadline))) {
      this.#isGoing = false
      return false
    }
    await this.#leave(deadline)
    return true
  }

  async #allSettled(deadline: Deadline): Promise<boolean> {
    const { settles, share, terms } = this.#parts
    const settled = (): Promise<void> => {
      if (settles.held === 0 || !this.#ending.isOpen) return Promise.resolve()
      return new Promise((resolve) => void (this.#settled = resolve))
    }
    try {
      await withDeadline(share.clock, deadline, settled, `handing queue "${terms.queue}" over`)
      return true
    } catch {
      return false
    }
  }

  async #leave(deadline: Deadline): Promise<void> {
    const { share, source } = this.#parts
    const ask = (): Promise<void> => share.sink.revoking([source], deadline)
    await withDeadline(share.clock, deadline, ask, 'a hand-over').catch(() => undefined)
    await this.#ending.leave()
  }
}
