import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { isHoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { hearChannel } from './channel-events.ts'
import type { Channel } from './client.ts'
import { brokerText, isPassing, REPLY, replyCodeOf } from './errors.ts'
import type { Wire } from './wire.ts'

/** What taking part needs. */
export interface MembersOptions {
  /** Name of the queue that everybody consumes who takes part. */
  readonly queue: string
  readonly clock: Clock
  readonly emit: Emit
  readonly rpcTimeoutMs: number
}

/** So long nothing is asked that was refused before. */
const REFUSED_MS = 60_000

/**
 * Knows how many receivers read the same queues: each also consumes a queue made for that alone, which
 * nobody publishes to. The queues themselves cannot tell: of a quorum queue with a single active
 * consumer the broker counts the active one only. It is a classic queue that goes with its last
 * consumer: where nobody may make it, or while its node is away, nobody knows how many there are.
 */
export class Members {
  readonly #options: MembersOptions
  #wire: Wire | null = null
  /** On which it takes part. */
  #channel: Channel | null = null
  #isWanted = true
  #isJoining = false
  #notBefore = Number.NEGATIVE_INFINITY
  #hasWarned = false

  constructor(options: MembersOptions) {
    this.#options = options
  }

  /** From now on over that wire; the one before has ended. */
  attach(wire: Wire): void {
    this.#wire = wire
    this.#channel = null
    this.#notBefore = Number.NEGATIVE_INFINITY
    void this.join()
  }

  /** Takes part, unless it does. Never rejects. */
  async join(): Promise<void> {
    this.#isWanted = true
    const wire = this.#wire
    const { clock, queue } = this.#options
    if (this.#isJoining || this.#channel !== null || wire === null || !wire.isOpen) return
    if (clock.now() < this.#notBefore) return
    this.#isJoining = true
    const consumed = this.#consumed(wire)
    try {
      const doing = `consuming "${queue}"`
      this.#joined(wire, await withDeadline(clock, this.#deadline, () => consumed, doing))
    } catch (error) {
      consumed.then((late) => close(wire, late)).catch(() => undefined)
      this.#failed(wire, error)
    } finally {
      this.#isJoining = false
    }
  }

  /** Takes no part any more: nobody shall leave anything to it. */
  leave(): void {
    this.#isWanted = false
    const channel = this.#channel
    this.#channel = null
    if (channel !== null && this.#wire !== null) close(this.#wire, channel)
  }

  /** How many take part, this one included; `null` when nobody can say. Never rejects. */
  async count(): Promise<number | null> {
    const [wire, channel] = [this.#wire, this.#channel]
    const { clock, queue } = this.#options
    if (wire === null || channel === null) return null
    try {
      const work = (): ReturnType<Channel['checkQueue']> => channel.checkQueue(queue)
      const doing = `counting consumers of "${queue}"`
      const { consumerCount } = await withDeadline(clock, this.#deadline, work, doing)
      return consumerCount > 0 ? consumerCount : null
    } catch (error) {
      if (this.#channel === channel) this.#channel = null
      this.#failed(wire, error)
      return null
    }
  }

  get #deadline(): Deadline {
    return this.#options.clock.now() + this.#options.rpcTimeoutMs
  }

  async #consumed(wire: Wire): Promise<Channel> {
    const { queue } = this.#options
    const options = { durable: true, autoDelete: true, arguments: { 'x-queue-type': 'classic' } }
    const channel = await wire.channel(this.#deadline)
    try {
      await channel.assertQueue(queue, options)
    } catch (error) {
      return this.#consumedAsItIs(wire, error)
    }
    await consume(channel, queue)
    return channel
  }

  /** It may be there all the same, made by somebody else and in another way. */
  async #consumedAsItIs(wire: Wire, error: unknown): Promise<Channel> {
    const code = replyCodeOf(error)
    if (code !== REPLY.accessRefused && code !== REPLY.preconditionFailed) throw error
    const channel = await wire.channel(this.#deadline)
    try {
      await consume(channel, this.#options.queue)
      return channel
    } catch {
      throw error
    }
  }

  #joined(wire: Wire, channel: Channel): void {
    if (this.#wire !== wire || !this.#isWanted) return close(wire, channel)
    this.#channel = channel
    const left = (): void => {
      if (this.#channel === channel) this.#channel = null
    }
    const cancelled = (): void => {
      left()
      close(wire, channel)
    }
    hearChannel(channel, { message: () => undefined, cancelled, closed: left })
  }

  #failed(wire: Wire, error: unknown): void {
    if (this.#wire !== wire || !wire.isOpen) return
    // An answer that may still come belongs to nobody: this wire is asked no more.
    if (isHoldfastError(error) && error.code === 'timeout') this.#wire = null
    const code = replyCodeOf(error)
    // It goes with its last consumer, perhaps in this moment: then it is made again at once.
    const isGone = code === REPLY.notFound && !isPassing(error)
    if (code === null || isGone) return
    this.#notBefore = this.#options.clock.now() + REFUSED_MS
    if (code === REPLY.accessRefused) this.#warn(brokerText(error))
  }

  #warn(said: string): void {
    if (this.#hasWarned) return
    this.#hasWarned = true
    const { emit, queue } = this.#options
    const message = `queue "${queue}" can be neither made nor read, so nobody knows how many processes there are: partitions stay with whoever has them: RabbitMQ said: ${said}`
    emit({ type: 'warning', code: 'rabbitmq.members', message })
  }
}

async function consume(channel: Channel, queue: string): Promise<void> {
  await channel.consume(queue, () => undefined, { noAck: true })
}

function close(wire: Wire, channel: Channel): void {
  wire.rpc('leaving the members of a group', () => channel.close()).catch(() => undefined)
}
