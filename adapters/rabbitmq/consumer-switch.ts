import type { Channel } from './client.ts'
import type { Wire } from './wire.ts'

/** What a consumer is registered with. */
export interface ConsumerTerms {
  readonly queue: string
  /** Deliveries the broker hands out before it waits for settles. */
  readonly prefetch: number
  /** Longest a delivery may stay unsettled, told to the broker; `null`: the broker's own. */
  readonly timeoutMs: number | null
}

/** One consumer on a channel, or none, whichever was asked for last. */
export class ConsumerSwitch {
  readonly #wire: Wire
  readonly #channel: Channel
  readonly #terms: ConsumerTerms
  #tag: string | null = null
  #wanted = false
  #turning: Promise<void> | null = null

  constructor(wire: Wire, channel: Channel, terms: ConsumerTerms) {
    this.#wire = wire
    this.#channel = channel
    this.#terms = terms
  }

  /**
   * Resolves when there is a consumer or none, as asked for last. Rejects with what the broker said; the
   * channel is closed then.
   */
  turn(on: boolean): Promise<void> {
    this.#wanted = on
    if (this.#turning === null && this.#isAsWanted) return Promise.resolve()
    this.#turning ??= this.#turn()
    return this.#turning
  }

  get #isAsWanted(): boolean {
    return this.#wanted === (this.#tag !== null)
  }

  async #turn(): Promise<void> {
    try {
      while (!this.#isAsWanted) {
        if (this.#tag === null) this.#tag = await this.#consume()
        else await this.#cancel(this.#tag)
      }
    } finally {
      this.#turning = null
    }
  }

  async #consume(): Promise<string> {
    const { queue, timeoutMs } = this.#terms
    const args = timeoutMs === null ? {} : { 'x-consumer-timeout': timeoutMs }
    const options = { noAck: false, arguments: args }
    const consume = (): ReturnType<Channel['consume']> =>
      this.#channel.consume(queue, () => undefined, options)
    const { consumerTag } = await this.#wire.rpc(`consuming queue "${queue}"`, consume)
    return consumerTag
  }

  async #cancel(tag: string): Promise<void> {
    const what = `cancelling the consumer of queue "${this.#terms.queue}"`
    await this.#wire.rpc(what, () => this.#channel.cancel(tag))
    this.#tag = null
  }
}
