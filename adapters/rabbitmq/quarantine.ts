import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Connecting } from './connector.ts'
import { isOpen, type InFlight } from './confirms.ts'
import { encodingRefusal } from './encoding.ts'
import { exchangeOf, isAbout, isMessageFault, perhapsStored, refusal } from './isolate.ts'
import { outgoing } from './outgoing.ts'
import { REPLY, replyCodeOf } from './errors.ts'
import type { KnownExchanges } from './known-exchanges.ts'
import { connectionLost } from './outcomes.ts'
import { PublishChannel, reportAll, type ChannelOwner, type Killing } from './publish-channel.ts'
import { Supervisor } from './supervisor.ts'
import type { Topics } from './topics.ts'

/** What a quarantine needs. */
export interface QuarantineOptions {
  readonly connector: Connecting
  readonly topics: Topics
  readonly clock: Clock
  readonly random: Random
  readonly purpose: string
  readonly rpcTimeoutMs: number
  readonly confirmTimeoutMs: number
  /** Exchanges that the broker has answered for. */
  readonly known: KnownExchanges
}

/** Connections that messages may end in one stay here; then the rest is reported unknown. */
const MOST_KILLS = 16

/**
 * Writes messages again that were in flight when the broker closed their channel, one at a time on a
 * connection of their own. The one that closes a fresh channel alone is refused; the others are
 * confirmed, perhaps a second time. The connection is open only while somebody is here.
 */
export class Quarantine implements ChannelOwner {
  readonly #options: QuarantineOptions
  #waiting: InFlight[] = []
  #supervisor: Supervisor | null = null
  #channel: PublishChannel | null = null
  #kills = 0
  #isClosed = false

  constructor(options: QuarantineOptions) {
    this.#options = options
  }

  add(messages: readonly InFlight[]): void {
    if (messages.length === 0 || this.#isClosed) return
    this.#waiting.push(...messages)
    if (this.#supervisor === null) this.#begin()
    else this.#next()
  }

  /** Ends for good; what is in flight is reported unknown. Never rejects. */
  async close(deadline: Deadline): Promise<void> {
    this.#isClosed = true
    await this.#stop(deadline)
  }

  room(): void {
    this.#next()
  }

  killed(channel: PublishChannel, { error, inFlight }: Killing): void {
    this.#channel = null
    const { known } = this.#options
    known.learn(channel.answeredExchanges())
    const isFault = isMessageFault(error)
    for (const { call, index } of inFlight.filter(isOpen)) {
      call.end(index, index + 1, isFault ? this.#verdict(call, index, error) : lostBy(error))
    }
    if (isFault && exchangeOf(error) !== null) this.#judgeSame(error)
    if (++this.#kills >= MOST_KILLS) this.#giveUp(error)
    if (this.#waiting.length === 0) return this.#finish()
    const text = `the broker closed the channel: ${error.message}`
    const reason = new HoldfastError('connection-lost', text, { cause: error })
    if (this.#supervisor === null) channel.wire.destroy(reason)
    else this.#supervisor.replace(reason)
  }

  unanswered(channel: PublishChannel): void {
    this.#channel = null
    channel.wire.destroy()
  }

  lost(): void {
    this.#channel = null
  }

  #begin(): void {
    const { connector, topics, clock, random, purpose, rpcTimeoutMs, confirmTimeoutMs } =
      this.#options
    this.#kills = 0
    const supervisor = new Supervisor({
      purpose: `${purpose} quarantine`,
      connector,
      clock,
      random,
      setup: async (wire) => {
        const deadline = clock.now() + rpcTimeoutMs
        const options = { clock, topics, window: 1, confirmTimeoutMs, owner: this }
        const channel = await PublishChannel.open(wire, deadline, options)
        if (!channel.isOpen) return
        this.#channel = channel
        this.#next()
      },
      lost: () => undefined,
      health: () => undefined,
    })
    this.#supervisor = supervisor
    supervisor.start()
  }

  /** Writes the next one when the last is answered. */
  #next(): void {
    const channel = this.#channel
    if (channel === null || channel.unanswered > 0) return
    while (channel.hasRoom && this.#waiting.length > 0) {
      this.#write(channel, this.#waiting.shift() as InFlight)
      channel.flush()
    }
    if (channel.isOpen && channel.unanswered === 0 && this.#waiting.length === 0) this.#finish()
  }

  #write(channel: PublishChannel, { call, index }: InFlight): void {
    if (!call.isOpen(index)) return
    const envelope = call.batch[index] as Envelope
    try {
      channel.write(call, index, outgoing(envelope, this.#options.topics))
    } catch (error) {
      call.end(index, index + 1, encodingRefusal(error, envelope))
    }
  }

  #verdict(call: InFlight['call'], index: number, error: Error): ReturnType<typeof refusal> {
    if (call.isDoubtful(index) && this.#wasTaken(error)) return perhapsStored(error)
    return refusal(call.batch[index] as Envelope, error)
  }

  /** Whether the broker may have taken before what it refuses now: exchanges and permissions go, sizes stay. */
  #wasTaken(error: Error): boolean {
    const exchange = exchangeOf(error)
    if (exchange === null) return replyCodeOf(error) === REPLY.accessRefused
    return this.#options.known.has(exchange)
  }

  /** Those to the same exchange would end in the same way, one connection each. */
  #judgeSame(error: Error): void {
    const { topics } = this.#options
    const waiting = this.#waiting.filter(isOpen)
    const isSame = ({ call, index }: InFlight): boolean =>
      isAbout(call.batch[index] as Envelope, error, topics)
    this.#waiting = waiting.filter((one) => !isSame(one))
    for (const { call, index } of waiting.filter(isSame)) {
      call.end(index, index + 1, this.#verdict(call, index, error))
    }
  }

  #giveUp(error: Error): void {
    const rest = this.#waiting.filter(isOpen)
    this.#waiting = []
    reportAll(rest, lostBy(error))
  }

  #finish(): void {
    const { clock, rpcTimeoutMs } = this.#options
    this.#channel = null
    void this.#stop(clock.now() + rpcTimeoutMs)
  }

  async #stop(deadline: Deadline): Promise<void> {
    const supervisor = this.#supervisor
    this.#supervisor = null
    await supervisor?.stop(deadline)
  }
}

function lostBy(error: Error): ReturnType<typeof connectionLost> {
  const text = `the broker closed the channel: ${error.message}`
  return connectionLost(new HoldfastError('connection-lost', text, { cause: error }))
}
