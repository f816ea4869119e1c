import type { Deadline } from '../../src/contract/broker.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { ChannelEnding } from './channel-ending.ts'
import type { ChannelParts } from './channel-parts.ts'

/**
 * Gives the place of an active consumer to whoever waits next for it: nothing more is handed over, what
 * was is finished or released, and then the channel is closed, whereupon the queue takes back what is
 * not settled and goes on with it at the next one, in its order.
 */
export class HandOver {
  readonly #parts: ChannelParts
  readonly #ending: ChannelEnding
  #hasBegun = false

  constructor(parts: ChannelParts, ending: ChannelEnding) {
    this.#parts = parts
    this.#ending = ending
  }

  /** Nothing may be handed over any more. */
  get hasBegun(): boolean {
    return this.#hasBegun
  }

  /**
   * Resolves when the place was given up. Whoever has deliveries is asked for them first, and has until
   * the deadline: what is still held then comes to the next one although it may be being handled here.
   * Never rejects.
   */
  async by(deadline: Deadline): Promise<void> {
    if (this.#hasBegun || !this.#ending.isOpen || this.#ending.isLeaving) return
    this.#hasBegun = true
    const { share, source, terms } = this.#parts
    const ask = (): Promise<void> =>
      Promise.race([share.sink.revoking([source], deadline), this.#ending.ended])
    const what = `handing queue "${terms.queue}" over`
    await withDeadline(share.clock, deadline, ask, what).catch(() => undefined)
    await this.#ending.leave()
  }
}
