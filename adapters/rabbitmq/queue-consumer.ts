import type { Deadline } from '../../src/contract/broker.ts'
import type { Random } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { Wake } from '../../src/policy/wake.ts'
import { tellsFailureFromRelease } from './capabilities.ts'
import type { ChannelShare } from './channel-parts.ts'
import { ConsumerChannel } from './consumer-channel.ts'
import type { ConsumerTerms } from './consumer-switch.ts'
import { brokerText, isPassing, REPLY, replyCodeOf } from './errors.ts'
import type { Wire } from './wire.ts'

/** What keeping a queue consumed needs. */
export interface QueueConsumerOptions {
  readonly topic: string
  readonly group: string
  readonly terms: ConsumerTerms
  /** Without what only the consumer itself can answer. */
  readonly share: Omit<ChannelShare, 'over'>
  readonly random: Random
  readonly rpcTimeoutMs: number
  /** A new number for each life of a channel. */
  readonly nextEpoch: () => number
  /** Nothing is consumed while this holds, so there is no use in a new channel. */
  readonly paused: () => boolean
  /** It is consumed now (`null`), or why it is not. */
  readonly told: (consumer: QueueConsumer, trouble: HoldfastError | null) => void
  /** A channel is over; what it had is not ours any more. */
  readonly lost: (channel: ConsumerChannel) => void
}

/** idle: no wire. trying: a channel is being opened, or waited for. open: consumed. stopped: for good. */
type State = 'idle' | 'trying' | 'open' | 'stopped'

/** Full jitter, and never at once: what a closed channel still had to write goes out before another opens. */
const AT_LEAST_MS = 50
const backoff = exponential({ initialMs: 100, maxMs: 30_000 })

/** A channel that lived that long was well: what comes next starts with short waits again. */
const WELL_MS = 2_000

/** A queue that is deleted and made again is gone for a moment; one that is gone this often in a row is gone. */
const GONE_AFTER = 3

/** While nobody rings, a paused consumer looks this often whether it still is. */
const LOOK_MS = 60_000

/** Keeps one queue consumed, channel after channel, on whatever wire there is. */
export class QueueConsumer {
  readonly queue: string
  readonly #options: QueueConsumerOptions
  readonly #share: ChannelShare
  /** Of the present wire's loop. */
  #wake: Wake
  #terms: ConsumerTerms
  #state: State = 'idle'
  #wire: Wire | null = null
  #channel: ConsumerChannel | null = null
  #channelOver: (() => void) | null = null
  #missing = 0
  #wasOpen = false

  constructor(options: QueueConsumerOptions) {
    this.#options = options
    this.#terms = options.terms
    this.queue = options.terms.queue
    this.#wake = new Wake(options.share.clock)
    this.#share = { ...options.share, over: (channel) => this.#ended(channel) }
  }

  /** The channel it is consumed on now. */
  get channel(): ConsumerChannel | null {
    return this.#channel
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Was consumed at least once. */
  get wasOpen(): boolean {
    return this.#wasOpen
  }

  /** Consumes on that wire until it ends. Resolves after the first try, however it went; never rejects. */
  attach(wire: Wire): Promise<void> {
    if (this.#state === 'stopped') return Promise.resolve()
    this.#wake.ring()
    this.#wake = new Wake(this.#share.clock)
    this.#wire = wire
    return new Promise((tried) => void this.#keep(wire, tried))
  }

  /** Something that keeps it from consuming has changed. */
  look(): void {
    if (this.#channel === null) this.#wake.ring()
    else this.#channel.look()
  }

  /** No new channel and no delivery any more; what is held can still be settled. */
  async stop(): Promise<void> {
    this.#state = 'stopped'
    this.#wake.ring()
    await this.#channel?.stop()
  }

  /** Leaves the queue and gives back what is held. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    this.#state = 'stopped'
    this.#wake.ring()
    await this.#channel?.close(deadline)
  }

  /** Paused for long: gives others what only rests here. */
  giveUp(): void {
    this.#channel?.giveUp()
  }

  /** From first in the queue's line of consumers to last; see `HandOver`. Never rejects. */
  async handOver(deadline: Deadline): Promise<void> {
    await this.#channel?.handOver(deadline)
  }

  async #keep(wire: Wire, tried: () => void): Promise<void> {
    const { share, random } = this.#options
    const wake = this.#wake
    for (let failures = 1; this.#isWanted(wire); failures++) {
      await this.#unpaused(wire, tried)
      if (!this.#isWanted(wire)) break
      const startedAt = share.clock.now()
      await this.#life(wire, tried)
      tried()
      if (share.clock.now() - startedAt >= WELL_MS) failures = 1
      const delayMs = AT_LEAST_MS + backoff.delayFor(failures, random)
      if (this.#isWanted(wire)) await wake.sleep(delayMs)
    }
    tried()
  }

  /** Resolves when there is a use for a channel, or for nothing any more. */
  async #unpaused(wire: Wire, tried: () => void): Promise<void> {
    const wake = this.#wake
    while (this.#options.paused() && this.#isWanted(wire)) {
      tried()
      await wake.sleep(LOOK_MS)
    }
  }

  /** One channel from its opening to its end. Never rejects. */
  async #life(wire: Wire, tried: () => void): Promise<void> {
    const { nextEpoch, rpcTimeoutMs } = this.#options
    const { clock } = this.#share
    const source = Object.freeze({ name: this.queue, epoch: nextEpoch() })
    this.#become('trying')
    try {
      const deadline = clock.now() + rpcTimeoutMs
      const terms = tellsFailureFromRelease(wire.version)
        ? this.#terms
        : { ...this.#terms, timeoutMs: null }
      const channel = await ConsumerChannel.open(wire, this.#share, terms, source, deadline)
      await this.#consumed(channel, wire, tried)
    } catch (error) {
      if (wire.isOpen) this.#refused(error)
    }
  }

  async #consumed(channel: ConsumerChannel, wire: Wire, tried: () => void): Promise<void> {
    const over = new Promise<void>((resolve) => void (this.#channelOver = resolve))
    this.#channel = channel
    if (channel.end !== null) return this.#ended(channel)
    if (!this.#isWanted(wire)) return channel.close(this.#share.clock.now())
    this.#become('open')
    this.#missing = 0
    this.#wasOpen = true
    this.#options.told(this, null)
    channel.look()
    tried()
    await over
  }

  #ended(channel: ConsumerChannel): void {
    if (this.#channel !== channel) return
    this.#channel = null
    this.#become('trying')
    this.#options.lost(channel)
    this.#channelOver?.()
  }

  #refused(error: unknown): void {
    const { timeoutMs } = this.#terms
    const code = replyCodeOf(error)
    this.#missing = code === REPLY.notFound && !isPassing(error) ? this.#missing + 1 : 0
    if (code === REPLY.preconditionFailed && timeoutMs !== null) {
      // Only quorum queues take the argument; others keep the broker's own timeout.
      this.#terms = { ...this.#terms, timeoutMs: null }
      return
    }
    this.#options.told(this, this.#trouble(error, code))
  }

  #trouble(error: unknown, code: number | null): HoldfastError {
    const { topic, group } = this.#options
    const facts = { topic, cause: error }
    const said = `group "${group}" of topic "${topic}" cannot be consumed from queue "${this.queue}": RabbitMQ said: ${brokerText(error)}`
    if (this.#missing > 0 && !this.#wasOpen) {
      const text = `${said}; declare it in topics.${topic}.groups, or let topology: 'create' make it`
      return new HoldfastError('topology', text, facts)
    }
    if (this.#missing >= GONE_AFTER) {
      const text = `${said}; it was deleted: declare it again, then start a new consumer`
      return new HoldfastError('destination-gone', text, facts)
    }
    const isRefused = code !== null && !isPassing(error) && this.#missing === 0
    return new HoldfastError(isRefused ? 'rejected' : 'unavailable', said, facts)
  }

  #isWanted(wire: Wire): boolean {
    return this.#state !== 'stopped' && this.#wire === wire && wire.isOpen
  }

  #become(state: State): void {
    if (this.#state !== 'stopped') this.#state = state
  }
}
