import type { Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { Channel } from './client.ts'
import { refusedRequest, replyCodeOf } from './errors.ts'
import type { Wire } from './wire.ts'

/** Idle channels that are kept for the next request. */
const MOST_IDLE = 4

/** What operations need. */
export interface OperationsOptions {
  readonly clock: Clock
  readonly rpcTimeoutMs: number
}

/**
 * Asks the broker to declare, look and fetch, on a wire of its own, so that what it refuses kills
 * nobody's publishes. A channel works on one thing at a time; one that failed is thrown away.
 */
export class Operations {
  readonly #options: OperationsOptions
  readonly #waiting = new Set<(wire: Wire) => void>()
  #wire: Wire | null = null
  #idle: Channel[] = []

  constructor(options: OperationsOptions) {
    this.#options = options
  }

  /** A new wire; those who wait for one go on. */
  attach(wire: Wire): void {
    this.#wire = wire
    this.#idle = []
    wire.onClose(() => {
      if (this.#wire !== wire) return
      this.#wire = null
      this.#idle = []
    })
    for (const resume of [...this.#waiting]) resume(wire)
  }

  /** Told once, with the next wire. */
  onWire(listener: (wire: Wire) => void): void {
    const once = (wire: Wire): void => {
      this.#waiting.delete(once)
      listener(wire)
    }
    this.#waiting.add(once)
  }

  /** The wire, also while it is gone for less than `rpcTimeoutMs`. Rejects with code `unavailable`. */
  async wire(): Promise<Wire> {
    if (this.#wire?.isOpen === true) return this.#wire
    const { clock, rpcTimeoutMs } = this.#options
    let resume: (wire: Wire) => void = () => undefined
    const coming = new Promise<Wire>((resolve) => void (resume = resolve))
    this.#waiting.add(resume)
    try {
      const deadline = clock.now() + rpcTimeoutMs
      return await withDeadline(clock, deadline, () => coming, 'a connection to RabbitMQ')
    } catch (cause) {
      throw new HoldfastError('unavailable', 'RabbitMQ cannot be reached now', { cause })
    } finally {
      this.#waiting.delete(resume)
    }
  }

  /**
   * Runs the work on a channel of its own. Rejects with amqplib's error for what the broker refused,
   * else with a `HoldfastError`.
   */
  async raw<T>(doing: string, work: (channel: Channel) => Promise<T>): Promise<T> {
    const wire = await this.wire()
    const deadline = this.#options.clock.now() + this.#options.rpcTimeoutMs
    const channel = this.#idle.pop() ?? (await wire.channel(deadline))
    try {
      const result = await wire.rpc(doing, () => work(channel))
      this.#keep(wire, channel)
      return result
    } catch (error) {
      // The broker ends the channel with its refusal; after anything else we do.
      if (replyCodeOf(error) === null) this.#discard(wire, channel)
      throw error
    }
  }

  /** Like `raw`; what the broker refused comes as a `HoldfastError` too. */
  async run<T>(doing: string, work: (channel: Channel) => Promise<T>): Promise<T> {
    try {
      return await this.raw(doing, work)
    } catch (error) {
      throw refusedRequest(doing, error)
    }
  }

  /** A channel for longer work, closed when it ends: what it left unsettled goes back to its queue. */
  async apart<T>(doing: string, work: (channel: Channel, wire: Wire) => Promise<T>): Promise<T> {
    const wire = await this.wire()
    const deadline = this.#options.clock.now() + this.#options.rpcTimeoutMs
    try {
      const channel = await wire.channel(deadline)
      try {
        return await work(channel, wire)
      } finally {
        await closed(wire, channel)
      }
    } catch (error) {
      throw refusedRequest(doing, error)
    }
  }

  #keep(wire: Wire, channel: Channel): void {
    if (this.#wire === wire && wire.isOpen && this.#idle.length < MOST_IDLE) {
      this.#idle.push(channel)
    } else {
      this.#discard(wire, channel)
    }
  }

  #discard(wire: Wire, channel: Channel): void {
    void closed(wire, channel)
  }
}

/** Never rejects; a channel that the broker closed already is fine too. */
async function closed(wire: Wire, channel: Channel): Promise<void> {
  if (!wire.isOpen) return
  await wire.rpc('closing a channel', () => channel.close()).catch(() => undefined)
}
