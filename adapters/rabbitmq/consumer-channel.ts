import type { Deadline, Source } from '../../src/contract/broker.ts'
import { ChannelEnding } from './channel-ending.ts'
import { hearChannel } from './channel-events.ts'
import {
  confirmSettles,
  openParts,
  type ChannelEnd,
  type ChannelParts,
  type ChannelShare,
} from './channel-parts.ts'
import type { ConsumeMessage } from './client.ts'
import type { ConsumerTerms } from './consumer-switch.ts'
import { RabbitmqDelivery, RetryableDelivery, type Settler, type Settling } from './delivery.ts'
import { brokerText } from './errors.ts'
import { HandOver } from './hand-over.ts'
import { incoming } from './incoming.ts'
import { attemptsBefore, nativeDelayOf, redeliveredOf } from './redelivery.ts'
import type { Wire } from './wire.ts'

/**
 * One life of one consuming channel: its deliveries are settled on it or not at all. Messages are
 * gathered while amqplib reads what the socket has, and handed over together after that.
 */
export class ConsumerChannel implements Settler {
  readonly source: Source
  readonly #parts: ChannelParts
  readonly #ending: ChannelEnding
  readonly #handOver: HandOver
  #scheduled = false
  #paused = false
  /** What its consumer was last asked to be. */
  #consumes = true
  #isActive = false

  private constructor(parts: ChannelParts) {
    this.source = parts.source
    this.#parts = parts
    this.#ending = new ChannelEnding(parts, () => parts.share.over(this))
    this.#handOver = new HandOver(parts, this.#ending)
    hearChannel(parts.channel, {
      message: (message) => this.#came(message),
      cancelled: () => this.#ending.cancelled(),
      closed: (error) => this.#ending.over('broker', error?.message ?? 'the channel was closed'),
    })
  }

  /** Opens a channel and consumes on it. Rejects with amqplib's error for what the broker refuses. */
  static async open(
    wire: Wire,
    share: ChannelShare,
    terms: ConsumerTerms,
    source: Source,
    deadline: Deadline,
  ): Promise<ConsumerChannel> {
    const parts = await openParts(wire, share, terms, source, deadline)
    const opened = new ConsumerChannel(parts)
    try {
      const { queue, prefetch } = terms
      await wire.rpc(`prefetch of queue "${queue}"`, () => parts.channel.prefetch(prefetch))
      await parts.consumer.turn(true)
      return opened
    } catch (error) {
      opened.#ending.discarded()
      throw error
    }
  }

  /** How it ended; `null` while it has not. */
  get end(): ChannelEnd | null {
    return this.#ending.end
  }

  /** Settles that may not be at the broker, at most. */
  get unconfirmed(): number {
    return this.#ending.unconfirmed
  }

  /** Deliveries handed over and not settled. */
  get held(): number {
    return this.#parts.settles.held
  }

  /** Grows with what is handed over. */
  get handed(): number {
    return this.#parts.settles.handed
  }

  /** Known to be the one of its queue's consumers that gets the messages: some came, or there is no other. */
  get isActive(): boolean {
    return this.#isActive && this.#ending.isOpen
  }

  /** Nobody else consumes, so it is. */
  becomeActive(): void {
    this.#isActive = true
  }

  /** Its own pause, beside that of the receiver. */
  set paused(paused: boolean) {
    this.#paused = paused
    this.look()
  }

  #came(message: ConsumeMessage): void {
    const { isOpen, end } = this.#ending
    if (end !== null) return
    if (!isOpen && !this.#parts.share.isSingleActive) {
      return this.#ending.giveBack(message.fields.deliveryTag)
    }
    this.#parts.resting.add(message)
    this.#isActive = true
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.look()
    })
  }

  /**
   * Hands over as much as may be and as there is room for. While nothing may be, a consumer that is not
   * alone is cancelled, so that others get what we do not take; a single active one stays: whoever
   * followed it would overtake what is held here.
   */
  look(): void {
    const { share, settles, resting } = this.#parts
    if (!this.#ending.isOpen || this.#ending.isLeaving) return
    if (settles.kept > 0 || this.#handOver.hasBegun) return
    if (this.#paused || !share.hands()) return this.#turn(false)
    const batch = this.#nextBatch()
    if (batch.length > 0) share.sink.deliver(this.source, batch)
    if (resting.size > 0) share.starved(this)
    // Asking for more while messages rest here would let them grow with every pause.
    else this.#turn(true)
  }

  #nextBatch(): RabbitmqDelivery[] {
    const { resting, settles, share } = this.#parts
    const batch: RabbitmqDelivery[] = []
    for (let next = resting.first; next !== undefined; next = resting.first) {
      if (!share.room.take(next.content.length)) break
      resting.removeFirst()
      const delivery = this.#deliveryOf(next)
      settles.hold(delivery)
      batch.push(delivery)
    }
    return batch
  }

  #deliveryOf(message: ConsumeMessage): RabbitmqDelivery {
    const { to, ordering, nativeRetry } = this.#parts.share
    const envelope = incoming(message, to, ordering, this.source.name)
    const made = attemptsBefore(envelope.headers, message, nativeRetry !== null)
    const facts = {
      envelope,
      tag: message.fields.deliveryTag,
      bytes: message.content.length,
      attempt: made + 1,
      redelivered: redeliveredOf(message, made),
    }
    if (nativeRetry === null) return new RabbitmqDelivery(this, this.source, facts)
    const waitMs = nativeDelayOf(message, nativeRetry)
    return new RetryableDelivery(this, this.source, facts, waitMs)
  }

  /**
   * What a single active consumer gives back would come to it again at once, behind what it has already:
   * so the message stays open until nothing is being handled any more, and then the channel ends, which
   * returns everything in its order.
   */
  settle(delivery: RabbitmqDelivery, how: Settling): void {
    const { settles, share } = this.#parts
    if (delivery.state === 'abandoned') return this.#stale(delivery)
    if (delivery.state !== 'held') return
    // Its place is still taken while the channel is being closed.
    if (this.#ending.end !== null) {
      share.room.give(delivery.bytes)
      return this.#stale(delivery)
    }
    delivery.state = how
    if (how === 'release' && share.isSingleActive) settles.keep()
    else settles.add(delivery)
    share.room.give(delivery.bytes)
    if (settles.kept > 0 && settles.held === 0) void this.#ending.leave()
  }

  /** Resolves when every settle made before is at the broker. Rejects when that cannot be known. */
  async flush(): Promise<void> {
    if (this.#ending.isLeaving) return this.#ending.left()
    await confirmSettles(this.#parts)
  }

  /** See `HandOver`; only where the queue has a single active consumer. */
  handOver(deadline: Deadline): Promise<void> {
    return this.#handOver.by(deadline)
  }

  /**
   * Gives others what was not handed over. A single active consumer gives its place up for that, since
   * the queue then takes everything back in its order; not while anything of it is being handled.
   */
  giveUp(): void {
    if (!this.#parts.share.isSingleActive) this.#ending.giveBackResting()
    else if (this.held === 0) void this.#ending.leave()
  }

  /** See `ChannelEnding.stop`. */
  stop(): Promise<void> {
    return this.#ending.stop()
  }

  /** See `ChannelEnding.close`. */
  close(deadline: Deadline): Promise<void> {
    return this.#ending.close(deadline)
  }

  #turn(on: boolean): void {
    const { share, consumer } = this.#parts
    if (this.#consumes === on || share.isSingleActive || !this.#ending.isOpen) return
    this.#consumes = on
    // Where the broker refuses, it closes the channel, and that is told by an event of its own.
    consumer.turn(on).catch((error: unknown) => this.#ending.over('broker', brokerText(error)))
  }

  #stale(delivery: RabbitmqDelivery): void {
    delivery.state = 'done'
    const { emit } = this.#parts.share
    if (emit.wants('settle.stale')) {
      emit({ type: 'settle.stale', source: this.source.name, count: 1 })
    }
  }
}
