import type { Deadline, Receiver, Source } from '../../src/contract/broker.ts'
import type { Cancel } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { Balance } from './balance.ts'
import type { Connecting } from './connector.ts'
import type { ConsumerChannel } from './consumer-channel.ts'
import { consumersOf, type ConsumersOptions } from './consumers-of.ts'
import type { QueueConsumer } from './queue-consumer.ts'
import { Room } from './room.ts'
import { Supervisor, type Health } from './supervisor.ts'
import type { Wire } from './wire.ts'

/** What a receiver needs. */
export interface ReceiverOptions extends ConsumersOptions {
  readonly connector: Connecting
  readonly health: (state: Health, reason: string | null) => void
}

/** open: delivers. stopped: settles only. closed: neither. */
type State = 'open' | 'stopped' | 'closed'

/** Whoever waits for the receiver to be consuming. */
type Opening = (error?: HoldfastError) => void

/** A pause that lasts longer gives others what it keeps from them. */
const LONG_PAUSE_MS = 60_000

/** Reads the queues of one group on one connection of its own, a channel each. */
export class RabbitmqReceiver implements Receiver {
  readonly #options: ReceiverOptions
  readonly #room: Room
  readonly #supervisor: Supervisor
  readonly #consumers: readonly QueueConsumer[]
  readonly #balances: readonly Balance[]
  /** Channels that have something to hand over and found no room, longest waiting first. */
  #starved = new Set<ConsumerChannel>()
  readonly #troubles = new Map<QueueConsumer, HoldfastError>()
  #wireHealth: readonly [Health, string | null] = ['connecting', null]
  #state: State = 'open'
  #paused = false
  #endPause: Cancel = () => undefined
  #epoch = 0
  /** Settles of channels that are over which may not have arrived, and that nobody was told of by flush(). */
  #missed = 0
  #opening: Opening | null = null
  #closing: Promise<void> | null = null

  constructor(options: ReceiverOptions) {
    const { connector, context, subscription } = options
    this.#options = options
    this.#room = new Room(subscription.maxHeld, () => context.clock.defer(() => this.#feed()))
    const { all, balances } = consumersOf(options, {
      room: this.#room,
      hands: () => this.#hands,
      starved: (channel) => void this.#starved.add(channel),
      nextEpoch: () => ++this.#epoch,
      told: (consumer, trouble) => this.#told(consumer, trouble),
      lost: (channel) => this.#lost(channel),
    })
    this.#consumers = all
    this.#balances = balances
    this.#supervisor = new Supervisor({
      purpose: `consuming as group "${subscription.group}"`,
      connector,
      clock: context.clock,
      random: context.random,
      setup: (wire) => this.#attach(wire),
      lost: () => undefined,
      health: (state, reason) => {
        this.#wireHealth = [state, reason]
        this.#tellHealth()
      },
    })
  }

  /**
   * Begins to consume, and resolves when every queue is consumed or `rpcTimeoutMs` has passed: then it
   * goes on trying. Rejects when the group is not there (code `topology`) or may not be read (code
   * `rejected`); nothing is left open then.
   */
  opened(): Promise<void> {
    const { context, options } = this.#options
    this.#supervisor.start()
    return new Promise((resolve, reject) => {
      const cancel = context.clock.after(options.rpcTimeoutMs, () => this.#opening?.())
      this.#opening = (error) => {
        this.#opening = null
        cancel()
        if (error === undefined) return resolve()
        this.#end()
        reject(error)
      }
    })
  }

  /** `resume()` ends what `pause()` began, `resume(sources)` what `pause(sources)` began. */
  pause(sources?: readonly Source[]): void {
    if (sources !== undefined) return this.#pauseSources(sources, true)
    if (this.#paused) return
    this.#paused = true
    this.#watchPause(LONG_PAUSE_MS)
    this.#look()
  }

  resume(sources?: readonly Source[]): void {
    if (sources !== undefined) return this.#pauseSources(sources, false)
    this.#paused = false
    this.#endPause()
    for (const balance of this.#balances) balance.takesPart = true
    this.#look()
  }

  async flush(deadline: Deadline): Promise<void> {
    const { clock } = this.#options.context
    const live = this.#channels()
    const flushes = live.map((channel) => {
      const what = `flushing settles of queue "${channel.source.name}"`
      return withDeadline(clock, deadline, () => channel.flush(), what)
    })
    const failed = (await Promise.allSettled(flushes)).map(({ status }) => status === 'rejected')
    let count = this.#missed
    this.#missed = 0
    // Those of a channel that ended meanwhile are among the missed ones.
    for (const [index, channel] of live.entries()) {
      if (failed[index] === true && channel.end === null) count += channel.unconfirmed
    }
    if (count > 0) throw missedError(count)
  }

  async stop(deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopped'
    this.#rest()
    const stops = this.#consumers.map((consumer) => consumer.stop())
    const what = 'cancelling consumers'
    const { clock } = this.#options.context
    // Nothing is handed over any more in any case; what cannot be cancelled ends with its connection.
    await withDeadline(clock, deadline, () => Promise.allSettled(stops), what).catch(
      () => undefined,
    )
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #close(deadline: Deadline): Promise<void> {
    if (this.#state === 'closed') return
    await this.stop(deadline)
    try {
      await this.flush(deadline)
    } finally {
      this.#state = 'closed'
      await Promise.all(this.#consumers.map((consumer) => consumer.close(deadline)))
      await this.#supervisor.stop(deadline)
      this.#opening?.()
      this.#options.sink.ended()
    }
  }

  async #attach(wire: Wire): Promise<void> {
    for (const balance of this.#balances) balance.attach(wire)
    await Promise.all(this.#consumers.map((consumer) => consumer.attach(wire)))
  }

  get #hands(): boolean {
    return this.#state === 'open' && !this.#paused
  }

  #channels(): readonly ConsumerChannel[] {
    return this.#consumers.flatMap(({ channel }) => channel ?? [])
  }

  #look(): void {
    for (const consumer of this.#consumers) consumer.look()
  }

  #pauseSources(sources: readonly Source[], paused: boolean): void {
    for (const channel of this.#channels()) {
      if (sources.includes(channel.source)) channel.paused = paused
    }
  }

  /** What is done from time to time is not done any more. */
  #rest(): void {
    this.#endPause()
    for (const balance of this.#balances) balance.stop()
  }

  /** Each gets what room there is, in turn. */
  #feed(): void {
    const starved = this.#starved
    this.#starved = new Set()
    for (const channel of starved) channel.look()
  }

  #watchPause(ms: number): void {
    const { context, options } = this.#options
    const shareOfTimeout = options.consumerTimeoutMs / 4
    this.#endPause = context.clock.after(Math.min(ms, shareOfTimeout), () => {
      for (const balance of this.#balances) balance.takesPart = false
      for (const consumer of this.#consumers) consumer.giveUp()
      this.#watchPause(ms)
    })
  }

  #told(consumer: QueueConsumer, trouble: HoldfastError | null): void {
    if (this.#state === 'closed') return
    if (trouble === null) this.#troubles.delete(consumer)
    else this.#troubles.set(consumer, trouble)
    this.#tellHealth()
    if (trouble !== null) return this.#weigh(trouble)
    if (this.#consumers.every(({ isOpen }) => isOpen)) this.#opening?.()
  }

  /** What waiting cannot help ends the opening, or the receiver; all else is tried again. */
  #weigh(trouble: HoldfastError): void {
    const { code } = trouble
    const isMissing = code === 'topology' || code === 'destination-gone'
    if (this.#opening !== null && (isMissing || code === 'rejected')) return this.#opening(trouble)
    if (isMissing) this.#gone(trouble)
  }

  #tellHealth(): void {
    const [state, reason] = this.#wireHealth
    const [trouble] = this.#troubles.values()
    if (state === 'up' && trouble !== undefined) {
      this.#options.health('connecting', trouble.message)
    } else this.#options.health(state, reason)
  }

  #lost(channel: ConsumerChannel): void {
    this.#starved.delete(channel)
    if (this.#state === 'closed') return
    const { context, sink } = this.#options
    const count = channel.unconfirmed
    this.#missed += count
    if (count > 0 && context.emit.wants('settle.failed')) {
      context.emit({ type: 'settle.failed', count, error: missedError(count) })
    }
    sink.lost([channel.source])
  }

  /** The group's queue was removed behind our back: nothing of it can be settled any more. */
  #gone(trouble: HoldfastError): void {
    const { topic } = trouble
    const sources = this.#channels().map(({ source }) => source)
    this.#end()
    if (sources.length > 0) this.#options.sink.lost(sources)
    const error = new HoldfastError('destination-gone', trouble.message, { topic, cause: trouble })
    this.#options.sink.ended(error)
  }

  /** At once, and without waiting: the broker takes everything back. */
  #end(): void {
    this.#state = 'closed'
    this.#rest()
    const { context, options } = this.#options
    const deadline = context.clock.now() + options.rpcTimeoutMs
    const leaving = this.#consumers.map((consumer) => consumer.close(deadline))
    void Promise.all(leaving).then(() => this.#supervisor.stop(deadline))
  }
}

function missedError(count: number): HoldfastError {
  const text = `up to ${count} settles may not have reached RabbitMQ: what they were for comes again`
  return new HoldfastError('settle', text)
}
