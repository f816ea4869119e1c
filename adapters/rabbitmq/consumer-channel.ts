import type { Deadline, DeliverySink, Source } from '../../src/contract/broker.ts'
import type { Ordering } from '../../src/contract/capabilities.ts'
import { type Clock, sleep } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Destination } from '../../src/contract/message.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Backlog } from './backlog.ts'
import { tellsFailureFromRelease } from './capabilities.ts'
import { hearChannel } from './channel-events.ts'
import type { Channel, ConsumeMessage, Message } from './client.ts'
import { ConsumerSwitch, type ConsumerTerms } from './consumer-switch.ts'
import { RabbitmqDelivery, RetryableDelivery, type Settler, type Settling } from './delivery.ts'
import { brokerText } from './errors.ts'
import { incoming } from './incoming.ts'
import { attemptsBefore, redeliveredOf } from './redelivery.ts'
import type { Room } from './room.ts'
import { Settles, type SettleWriter } from './settles.ts'
import type { Wire } from './wire.ts'

/** What the channels of one queue have in common. */
export interface ChannelShare {
  readonly clock: Clock
  readonly emit: Emit
  readonly sink: DeliverySink
  readonly room: Room
  readonly to: Destination
  readonly ordering: Ordering
  /** The queue hands out to one consumer at a time, so leaving it lets another go on behind what is held here. */
  readonly isSingleActive: boolean
  /** The queue delays retries itself. */
  readonly retriesNatively: boolean
  /** Whether anything may be handed over now. */
  readonly hands: () => boolean
  /** There is something to hand over and no room. */
  readonly starved: (channel: ConsumerChannel) => void
  /** Called once, outside amqplib, when the channel is over. */
  readonly over: (channel: ConsumerChannel) => void
}

/** Why a channel ended. `by` us: asked for, and told to nobody. */
export interface ChannelEnd {
  readonly by: 'us' | 'broker' | 'wire'
  readonly error: HoldfastError
}

/** So often in a row nothing may have come, although it could have; looked at so often at most. */
const QUIET_LOOKS = 10
const MOST_LOOKS = 30
const LOOK_MS = 10

/** open: delivers. stopping: gives back what comes. ended: its tags mean nothing any more. */
type State =
  { readonly is: 'open' | 'stopping' } | { readonly is: 'ended'; readonly end: ChannelEnd }

/**
 * One life of one consuming channel: its deliveries are settled on it or not at all. Messages are
 * gathered while amqplib reads what the socket has, and handed over together after that.
 */
export class ConsumerChannel implements Settler {
  readonly source: Source
  readonly #share: ChannelShare
  readonly #terms: ConsumerTerms
  readonly #wire: Wire
  readonly #channel: Channel
  readonly #consumer: ConsumerSwitch
  readonly #writer: SettleWriter
  readonly #settles: Settles
  readonly #resting = new Backlog()
  readonly #unhear: () => void
  #state: State = { is: 'open' }
  #scheduled = false
  #paused = false
  #leaving: Promise<void> | null = null
  /** Settles that may be lost with it; known when it has ended. */
  #missed: number | null = null
  /** What its consumer was last asked to be. */
  #consumes = true

  private constructor(
    share: ChannelShare,
    terms: ConsumerTerms,
    source: Source,
    on: { readonly wire: Wire; readonly channel: Channel },
  ) {
    const { wire, channel } = on
    this.source = source
    this.#share = share
    this.#terms = terms
    this.#wire = wire
    this.#channel = channel
    this.#consumer = new ConsumerSwitch(wire, channel, terms)
    this.#writer = writerOn(channel)
    this.#settles = new Settles(this.#writer, share.clock)
    hearChannel(channel, {
      message: (message) => this.#came(message),
      cancelled: () => this.#cancelled(),
      closed: (error) => this.#over('broker', error?.message ?? 'the channel was closed'),
    })
    this.#unhear = wire.onClose((error) => this.#over('wire', error.message))
  }

  /** Opens a channel and consumes on it. Rejects with amqplib's error for what the broker refuses. */
  static async open(
    wire: Wire,
    share: ChannelShare,
    terms: ConsumerTerms,
    source: Source,
    deadline: Deadline,
  ): Promise<ConsumerChannel> {
    const channel = await wire.channel(deadline)
    const opened = new ConsumerChannel(share, terms, source, { wire, channel })
    try {
      const { queue, prefetch } = terms
      await wire.rpc(`prefetch of queue "${queue}"`, () => channel.prefetch(prefetch))
      await opened.#consumer.turn(true)
      return opened
    } catch (error) {
      opened.#state = { is: 'ended', end: { by: 'us', error: endError(terms.queue, 'not opened') } }
      opened.#unhear()
      throw error
    }
  }

  get isOpen(): boolean {
    return this.#state.is === 'open'
  }

  /** How it ended; `null` while it has not. */
  get end(): ChannelEnd | null {
    return this.#state.is === 'ended' ? this.#state.end : null
  }

  /** Deliveries handed over and not settled. */
  get held(): number {
    return this.#settles.held
  }

  /** Messages that came and wait here for room or the end of a pause. */
  get resting(): number {
    return this.#resting.size
  }

  /**
   * Settles that may not be at the broker, at most: it would not have delivered what it did, had more
   * than a prefetch been open there.
   */
  get unconfirmed(): number {
    if (this.#missed !== null) return this.#missed
    const open = this.#settles.held + this.#resting.size
    return Math.min(this.#settles.unconfirmed, Math.max(0, this.#terms.prefetch - open))
  }

  /** Its own pause, beside that of the receiver. */
  set paused(paused: boolean) {
    this.#paused = paused
    this.look()
  }

  /**
   * Hands over as much as may be and as there is room for. While nothing may be, a consumer that is not
   * alone is cancelled, so that others get what we do not take; a single active one stays: whoever
   * followed it would overtake what is held here.
   */
  look(): void {
    if (this.#state.is !== 'open') return
    if (this.#settles.kept > 0 || this.#leaving !== null) return
    if (this.#paused || !this.#share.hands()) return this.#turn(false)
    const batch = this.#nextBatch()
    if (batch.length > 0) this.#share.sink.deliver(this.source, batch)
    if (this.#resting.size > 0) this.#share.starved(this)
    // Asking for more while messages rest here would let them grow with every pause.
    else this.#turn(true)
  }

  /**
   * What a single active consumer gives back would come to it again at once, behind what it has already:
   * so the message stays open until nothing is being handled any more, and then the channel ends, which
   * returns everything in its order.
   */
  settle(delivery: RabbitmqDelivery, how: Settling): void {
    if (delivery.state !== 'held') return
    if (this.#state.is === 'ended') return this.#stale(delivery)
    delivery.state = how
    if (how === 'release' && this.#share.isSingleActive) this.#settles.keep()
    else this.#settles.add(delivery)
    this.#share.room.give(delivery.bytes)
    if (this.#settles.kept > 0 && this.#settles.held === 0) void this.#leave()
  }

  /** Resolves when every settle made before is at the broker. Rejects when that cannot be known. */
  async flush(): Promise<void> {
    if (this.#leaving !== null) return this.#left(this.#leaving)
    this.#settles.write()
    if (this.#settles.unconfirmed === 0) return
    const mark = this.#settles.mark
    const { queue, prefetch } = this.#terms
    // Frames of a channel are worked off in order, so any answer after the settles confirms them.
    await this.#wire.rpc(`flushing settles of queue "${queue}"`, () =>
      this.#channel.prefetch(prefetch),
    )
    this.#settles.confirm(mark)
  }

  /**
   * No delivery from now on; what comes is given back, what is held can be settled. A single active
   * consumer keeps its place until `close`, which gives it up together with everything it has.
   */
  async stop(): Promise<void> {
    if (this.#state.is !== 'open') return
    this.#state = { is: 'stopping' }
    if (this.#share.isSingleActive) return
    await this.#consumer.turn(false)
    this.#giveBackResting()
  }

  /** Ends the channel by the deadline; the broker gives everything unsettled to others. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    const what = `closing the channel of queue "${this.#terms.queue}"`
    const { clock } = this.#share
    await withDeadline(clock, deadline, () => this.#leave(), what).catch(() => undefined)
  }

  /**
   * Gives others what was not handed over. A single active consumer gives its place up for that, since
   * the queue then takes everything back in its order; not while anything of it is being handled.
   */
  yield(): void {
    if (!this.#share.isSingleActive) this.#giveBackResting()
    else if (this.#settles.held === 0) void this.#leave()
  }

  /** What rests here goes to others; only where that cannot change an order. */
  #giveBackResting(): void {
    for (const message of this.#resting.drain()) this.#giveBack(message)
  }

  #giveBackHeld(): void {
    this.#giveBackResting()
    for (const { tag, bytes } of this.#settles.abandon()) {
      this.#share.room.give(bytes)
      this.#nack(tag)
    }
  }

  #giveBack({ fields }: ConsumeMessage): void {
    this.#nack(fields.deliveryTag)
  }

  /**
   * RabbitMQ 4.3 forgets to remove a single active consumer that ends with open deliveries while one of
   * higher priority waits to take over: the queue would then go on delivering to nobody. Given back
   * before, they go to the other in their order. Before 4.3 that is no danger, and every return counts
   * towards the delivery limit.
   */
  async #giveAllBack(): Promise<void> {
    try {
      if (await this.#getsNoMore()) this.#channel.nackAll(true)
    } catch {
      // The channel has ended: the broker has everything back.
    }
  }

  /**
   * Whether nothing is on its way here: else what is given back would come again behind that, out of
   * order. So it is when all that may be open is, or when messages are ready and none of them comes.
   */
  async #getsNoMore(): Promise<boolean> {
    const { queue, prefetch } = this.#terms
    const check = (): ReturnType<Channel['checkQueue']> => this.#channel.checkQueue(queue)
    let quiet = 0
    for (let look = 0; look < MOST_LOOKS; look++) {
      const { size } = this.#resting
      if (size + this.#settles.open >= prefetch) return true
      await sleep(this.#share.clock, LOOK_MS)
      const { messageCount } = await this.#wire.rpc(`looking at queue "${queue}"`, check)
      if (messageCount === 0) return false
      quiet = this.#resting.size === size ? quiet + 1 : 0
      if (quiet === QUIET_LOOKS) return true
    }
    return false
  }

  #nack(tag: number): void {
    try {
      this.#writer.nack(tag)
    } catch {
      // The channel has ended: the broker has everything back.
    }
  }

  #came(message: ConsumeMessage): void {
    if (this.#state.is === 'ended') return
    if (this.#state.is === 'stopping' && !this.#share.isSingleActive) return this.#giveBack(message)
    this.#resting.add(message)
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.look()
    })
  }

  #nextBatch(): RabbitmqDelivery[] {
    const batch: RabbitmqDelivery[] = []
    for (let next = this.#resting.first; next !== undefined; next = this.#resting.first) {
      if (!this.#share.room.take(next.content.length)) break
      this.#resting.removeFirst()
      const delivery = this.#deliveryOf(next)
      this.#settles.hold(delivery)
      batch.push(delivery)
    }
    return batch
  }

  #deliveryOf(message: ConsumeMessage): RabbitmqDelivery {
    const { to, ordering, retriesNatively } = this.#share
    const envelope = incoming(message, to, ordering, this.source.name)
    const made = attemptsBefore(envelope.headers, message, retriesNatively)
    const kind = retriesNatively ? RetryableDelivery : RabbitmqDelivery
    return new kind(this, this.source, {
      envelope,
      tag: message.fields.deliveryTag,
      bytes: message.content.length,
      attempt: made + 1,
      redelivered: redeliveredOf(message, made),
    })
  }

  #turn(on: boolean): void {
    if (this.#consumes === on || this.#share.isSingleActive || this.#state.is !== 'open') return
    this.#consumes = on
    // Where the broker refuses, it closes the channel, and that is told by an event of its own.
    this.#consumer.turn(on).catch((error: unknown) => this.#over('broker', brokerText(error)))
  }

  /**
   * A consumer that the broker cancelled is never used again: from 4.3 on the broker waits for an answer
   * that amqplib does not give, and only closing the channel frees the queue.
   */
  #cancelled(): void {
    this.#settles.write()
    const what = `closing the cancelled channel of queue "${this.#terms.queue}"`
    this.#over('broker', 'the broker cancelled the consumer')
    this.#wire.rpc(what, () => this.#channel.close()).catch(() => undefined)
  }

  /** Once; what comes after, and what was held, is not ours any more. */
  #leave(): Promise<void> {
    if (this.#leaving === null && this.#state.is !== 'ended') this.#leaving = this.#sayGoodbye()
    return this.#leaving ?? Promise.resolve()
  }

  async #sayGoodbye(): Promise<void> {
    this.#settles.write()
    if (!this.#share.isSingleActive) this.#giveBackHeld()
    else if (tellsFailureFromRelease(this.#wire.version)) await this.#giveAllBack()
    this.#end('us', 'it was closed')
    const what = `closing the channel of queue "${this.#terms.queue}"`
    try {
      await this.#wire.rpc(what, () => this.#channel.close())
      this.#missed = 0
    } catch {
      // It ended in another way meanwhile, and what was missed stays missed.
    }
    this.#tellOver()
  }

  async #left(leaving: Promise<void>): Promise<void> {
    await leaving
    const { error } = this.end as ChannelEnd
    if (this.unconfirmed > 0) throw error
  }

  #over(by: ChannelEnd['by'], why: string): void {
    if (this.#state.is === 'ended') return
    this.#end(by, why)
    // Out of amqplib's own stack: what is told now may run handlers' code.
    queueMicrotask(() => this.#tellOver())
  }

  #end(by: ChannelEnd['by'], why: string): void {
    this.#missed = this.unconfirmed
    this.#state = { is: 'ended', end: { by, error: endError(this.#terms.queue, why) } }
    this.#unhear()
  }

  #tellOver(): void {
    const { room, over } = this.#share
    for (const delivery of this.#settles.abandon()) room.give(delivery.bytes)
    this.#resting.drain()
    over(this)
  }

  #stale(delivery: RabbitmqDelivery): void {
    delivery.state = 'done'
    const { emit } = this.#share
    if (emit.wants('settle.stale')) {
      emit({ type: 'settle.stale', source: this.source.name, count: 1 })
    }
  }
}

function endError(queue: string, why: string): HoldfastError {
  const text = `the consuming channel of queue "${queue}" ended: ${why}; what was not settled comes again`
  return new HoldfastError('connection-lost', text)
}

/** Settles as amqplib writes them; one object stands for every message, since only the tag is read. */
function writerOn(channel: Channel): SettleWriter {
  const fields = { deliveryTag: 0 }
  const message = { fields } as unknown as Message
  const of = (tag: number): Message => {
    fields.deliveryTag = tag
    return message
  }
  return {
    ack: (tag, multiple) => channel.ack(of(tag), multiple),
    nack: (tag) => channel.nack(of(tag), false, true),
    reject: (tag) => channel.reject(of(tag), true),
  }
}
