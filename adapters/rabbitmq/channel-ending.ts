import type { Deadline } from '../../src/contract/broker.ts'
import { sleep } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import {
  confirmSettles,
  unconfirmedOf,
  type ChannelEnd,
  type ChannelParts,
} from './channel-parts.ts'

/**
 * The broker's side of a channel keeps settles back while its queue is behind, and forgets them when it
 * is closed; what was finished would come again. So long after the last settle the queue has them.
 */
const SETTLED_MS = 100

/** open: delivers. stopping: gives back what comes. ended: its tags mean nothing any more. */
type State =
  { readonly is: 'open' | 'stopping' } | { readonly is: 'ended'; readonly end: ChannelEnd }

/** How one life of a consuming channel ends: what is not settled goes back, and one is told, once. */
export class ChannelEnding {
  readonly #parts: ChannelParts
  readonly #told: () => void
  /** Resolves when it has ended. */
  readonly ended: Promise<void>
  #unhear: () => void = () => undefined
  #resolveEnded: () => void = () => undefined
  #state: State = { is: 'open' }
  #leaving: Promise<void> | null = null
  /** Settles that may be lost with it; known when it has ended. */
  #missed: number | null = null

  /** `told` is called outside amqplib when it is over, but not when it is `discarded`. */
  constructor(parts: ChannelParts, told: () => void) {
    this.#parts = parts
    this.#told = told
    this.ended = new Promise((resolve) => void (this.#resolveEnded = resolve))
    this.#unhear = parts.wire.onClose((error) => this.over('wire', error.message))
  }

  get isOpen(): boolean {
    return this.#state.is === 'open'
  }

  /** It gives its place up: nothing is begun on it any more. */
  get isLeaving(): boolean {
    return this.#leaving !== null
  }

  /** How it ended; `null` while it has not. */
  get end(): ChannelEnd | null {
    return this.#state.is === 'ended' ? this.#state.end : null
  }

  /** Settles that may not be at the broker, at most. */
  get unconfirmed(): number {
    return this.#missed ?? unconfirmedOf(this.#parts)
  }

  /** Nobody ever consumed on it. */
  discarded(): void {
    this.#state = { is: 'ended', end: { by: 'us', error: this.#error('not opened') } }
    this.#unhear()
  }

  /**
   * No delivery from now on; what comes is given back, what is held can be settled. A single active
   * consumer keeps its place until `close`, which gives it up together with everything it has.
   */
  async stop(): Promise<void> {
    if (this.#state.is !== 'open') return
    this.#state = { is: 'stopping' }
    if (this.#parts.share.isSingleActive) return
    await this.#parts.consumer.turn(false)
    this.giveBackResting()
  }

  /** Ends the channel by the deadline; the broker gives everything unsettled to others. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    const { clock } = this.#parts.share
    await withDeadline(clock, deadline, () => this.leave(), this.#closing).catch(() => undefined)
  }

  /** Gives back and closes, once. Never rejects. */
  leave(): Promise<void> {
    if (this.#leaving === null && this.#state.is !== 'ended') this.#leaving = this.#sayGoodbye()
    return this.#leaving ?? Promise.resolve()
  }

  /** For `flush`: rejects when settles may be lost with it. */
  async left(): Promise<void> {
    await this.#leaving
    if (this.unconfirmed > 0) throw (this.end as ChannelEnd).error
  }

  /**
   * A consumer that the broker cancelled is never used again: from 4.3 on the broker waits for an answer
   * that amqplib does not give, and only closing the channel frees the queue.
   */
  cancelled(): void {
    const { settles, wire, channel } = this.#parts
    settles.write()
    this.over('broker', 'the broker cancelled the consumer')
    wire.rpc(this.#closing, () => channel.close()).catch(() => undefined)
  }

  /** It ended without being asked to. */
  over(by: ChannelEnd['by'], why: string): void {
    if (this.#state.is === 'ended') return
    this.#end(by, why)
    // Out of amqplib's own stack: what is told now may run handlers' code.
    queueMicrotask(() => this.#tell())
  }

  /** What rests here goes to others; only where that cannot change an order. */
  giveBackResting(): void {
    for (const { fields } of this.#parts.resting.drain()) this.giveBack(fields.deliveryTag)
  }

  giveBack(tag: number): void {
    try {
      this.#parts.writer.nack(tag)
    } catch {
      // The channel has ended: the broker has everything back.
    }
  }

  /**
   * A single active consumer gives back by closing alone: the queue takes everything back in its order
   * before the next one gets anything. Were it given back before, it would come here again at once; were
   * the consumer cancelled first, the next one would go on behind it.
   */
  async #sayGoodbye(): Promise<void> {
    const { settles, share, wire, channel } = this.#parts
    await this.#settled()
    if (this.#state.is === 'ended') return
    settles.write()
    if (!share.isSingleActive) this.#giveBackAll()
    this.#end('us', 'it was closed')
    try {
      await wire.rpc(this.#closing, () => channel.close())
      this.#missed = 0
    } catch {
      // It ended in another way meanwhile, and what was missed stays missed.
    }
    this.#tell()
  }

  #giveBackAll(): void {
    const { settles, share } = this.#parts
    this.giveBackResting()
    for (const { tag, bytes } of settles.abandon()) {
      share.room.give(bytes)
      this.giveBack(tag)
    }
  }

  async #settled(): Promise<void> {
    const { settles, share } = this.#parts
    await confirmSettles(this.#parts).catch(() => undefined)
    const leftMs = settles.writtenAt + SETTLED_MS - share.clock.now()
    if (leftMs > 0 && this.#state.is !== 'ended') await sleep(share.clock, leftMs)
  }

  #end(by: ChannelEnd['by'], why: string): void {
    this.#missed = this.unconfirmed
    this.#state = { is: 'ended', end: { by, error: this.#error(why) } }
    this.#unhear()
    this.#resolveEnded()
  }

  #tell(): void {
    const { settles, resting, share } = this.#parts
    for (const delivery of settles.abandon()) share.room.give(delivery.bytes)
    resting.drain()
    this.#told()
  }

  get #closing(): string {
    return `closing the channel of queue "${this.#parts.terms.queue}"`
  }

  #error(why: string): HoldfastError {
    const { queue } = this.#parts.terms
    const text = `the consuming channel of queue "${queue}" ended: ${why}; what was not settled comes again`
    return new HoldfastError('connection-lost', text)
  }
}
