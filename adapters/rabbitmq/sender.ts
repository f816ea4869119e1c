import type {
  BrokerContext,
  Deadline,
  Report,
  Sender,
  SendOutcome,
} from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { DeadlineWatch } from '../../src/policy/deadline-watch.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Call, type CallOwner } from './call.ts'
import { CallQueue } from './call-queue.ts'
import { isOpen } from './confirms.ts'
import type { Connecting } from './connector.ts'
import { encodingRefusal, tooLarge } from './encoding.ts'
import { exchangeOf, isAbout, isMessageFault, isolate, refusal } from './isolate.ts'
import { KnownExchanges } from './known-exchanges.ts'
import type { Resolved } from './options.ts'
import { outgoing } from './outgoing.ts'
import { connectionLost, NOT_CONFIRMED, notSent } from './outcomes.ts'
import { PublishChannel, reportAll, type ChannelOwner, type Killing } from './publish-channel.ts'
import { Quarantine } from './quarantine.ts'
import { Supervisor, type Health } from './supervisor.ts'
import type { Topics } from './topics.ts'

/** Messages written in one turn: the broker begins with them while the next ones are made. */
const MOST_AT_ONCE = 128

/** What a sender needs. */
export interface RabbitmqSenderOptions {
  readonly connector: Connecting
  readonly topics: Topics
  readonly options: Pick<Resolved, 'window' | 'maxBodyBytes' | 'rpcTimeoutMs' | 'confirmTimeoutMs'>
  readonly context: Pick<BrokerContext, 'clock' | 'random' | 'emit'>
  readonly purpose: string
  readonly health: (state: Health, reason: string | null) => void
}

/** A refusal found while writing, told in the next turn. */
interface Held {
  readonly call: Call
  readonly index: number
  readonly outcome: SendOutcome
}

/**
 * Publishes in the order of the calls, on one confirm channel of a connection of its own, which is
 * opened with the first call. What waits for the connection, the window or a blocking broker is
 * refused at its deadline; what was written is reported by the broker's word alone.
 */
export class RabbitmqSender implements Sender, ChannelOwner, CallOwner {
  readonly #options: RabbitmqSenderOptions
  readonly #watch: DeadlineWatch
  readonly #supervisor: Supervisor
  readonly #quarantine: Quarantine
  readonly #known = new KnownExchanges()
  readonly #retired = new Set<PublishChannel>()
  readonly #calls = new CallQueue()
  #held: Held[] = []
  /** The rest is written in the next turn. */
  #later = false
  #channel: PublishChannel | null = null
  #state: 'open' | 'closing' | 'closed' = 'open'
  #closing: Promise<void> | null = null
  #onIdle: (() => void) | null = null

  constructor(options: RabbitmqSenderOptions) {
    const { connector, topics, purpose, context, health } = options
    const { clock, random } = context
    const { rpcTimeoutMs, confirmTimeoutMs } = options.options
    this.#options = options
    this.#watch = new DeadlineWatch(clock)
    this.#supervisor = new Supervisor({
      purpose,
      connector,
      clock,
      random,
      setup: (wire) =>
        this.#setUp(
          PublishChannel.open(wire, clock.now() + rpcTimeoutMs, {
            clock,
            topics,
            window: options.options.window,
            confirmTimeoutMs,
            owner: this,
          }),
        ),
      lost: () => undefined,
      health,
    })
    this.#quarantine = new Quarantine({
      connector,
      topics,
      clock,
      random,
      purpose,
      rpcTimeoutMs,
      confirmTimeoutMs,
      known: this.#known,
    })
  }

  send(batch: readonly Envelope[], deadline: Deadline, report: Report): void {
    if (batch.length === 0) return
    if (this.#state !== 'open') {
      const outcome = notSent('the sender is closed')
      this.#options.context.clock.defer(() => report(0, batch.length, outcome))
      return
    }
    const call = new Call(batch, deadline, report, this)
    this.#watch.add(call)
    this.#calls.add(call)
    this.#supervisor.start()
    this.#pump()
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  ended(call: Call): void {
    this.#watch.remove(call)
    if (call.cursor < call.batch.length) this.#calls.passed()
    if (this.#watch.size === 0) this.#onIdle?.()
  }

  late(call: Call, index: number, { status }: SendOutcome): void {
    const { emit } = this.#options.context
    if (!emit.wants('publish.late')) return
    const { id, to } = call.batch[index] as Envelope
    const topic = to.kind === 'reply' ? to.address : to.topic
    emit({ type: 'publish.late', topic, id, outcome: status })
  }

  room(): void {
    this.#pump()
  }

  killed(channel: PublishChannel, killing: Killing): void {
    const { error, inFlight } = killing
    this.#known.learn(channel.answeredExchanges())
    const text = `RabbitMQ closed a sending channel: ${error.message}`
    const reason = new HoldfastError('connection-lost', text, { cause: error })
    // First the connection: numbers of closed channels may not be used again while it has unsent frames.
    this.#drop(channel, reason)
    if (!isMessageFault(error)) return reportAll(inFlight.filter(isOpen), connectionLost(reason))
    const { culprits, survivors } = isolate(killing, this.#options.topics, this.#known)
    for (const { call, index } of culprits) {
      call.end(index, index + 1, refusal(call.batch[index] as Envelope, error))
    }
    if (exchangeOf(error) !== null) this.#refuseWaiting(error)
    this.#quarantine.add(survivors)
  }

  unanswered(channel: PublishChannel): void {
    if (channel !== this.#channel) return
    this.#channel = null
    this.#retired.add(channel)
    this.#supervisor.leave()
  }

  lost(channel: PublishChannel): void {
    this.#retired.delete(channel)
    this.#known.learn(channel.answeredExchanges())
    if (channel === this.#channel) this.#channel = null
  }

  /** What waits for the same exchange would end in the same way, a connection for every turn's worth of it. */
  #refuseWaiting(error: Error): void {
    for (const call of this.#calls.waiting()) {
      for (let index = call.cursor; index < call.batch.length; index++) {
        const envelope = call.batch[index] as Envelope
        if (!call.isOpen(index) || !isAbout(envelope, error, this.#options.topics)) continue
        call.end(index, index + 1, refusal(envelope, error))
      }
    }
  }

  #drop(channel: PublishChannel, reason: HoldfastError): void {
    this.#retired.delete(channel)
    if (channel === this.#channel) {
      this.#channel = null
      this.#supervisor.replace(reason)
    } else channel.wire.destroy(reason)
  }

  async #setUp(opening: Promise<PublishChannel>): Promise<void> {
    const channel = await opening
    if (!channel.isOpen) return
    this.#channel = channel
    this.#pump()
  }

  /** Writes as much as there is room for. */
  #pump(): void {
    const channel = this.#channel
    if (channel === null || this.#later) return
    let left = MOST_AT_ONCE
    while (channel.hasRoom) {
      const call = this.#calls.next()
      if (call === null) break
      if (left-- === 0) {
        this.#goOnLater()
        break
      }
      this.#write(channel, call, call.cursor++)
    }
    channel.flush()
    this.#calls.tidy()
  }

  /** What was written leaves at the end of the turn. */
  #goOnLater(): void {
    this.#later = true
    this.#options.context.clock.defer(() => {
      this.#later = false
      this.#pump()
    })
  }

  #write(channel: PublishChannel, call: Call, index: number): void {
    if (!call.isOpen(index)) return
    const envelope = call.batch[index] as Envelope
    const { topics } = this.#options
    const refused = this.#refusal(envelope)
    if (refused !== null) return this.#hold(call, index, refused)
    try {
      channel.write(call, index, outgoing(envelope, topics))
    } catch (error) {
      this.#hold(call, index, encodingRefusal(error, envelope))
    }
  }

  /** What is refused without asking the broker. */
  #refusal(envelope: Envelope): SendOutcome | null {
    const { topics, options } = this.#options
    const { to, body } = envelope
    // What came from the broker may go back to it.
    if (to.kind === 'topic' && body !== null && body.length > options.maxBodyBytes) {
      return tooLarge(body.length, options.maxBodyBytes, envelope)
    }
    const error = to.kind === 'topic' ? topics.of(to.topic).unbound : null
    return error && { status: 'refused', error }
  }

  /** Nothing is reported from inside `send`. */
  #hold(call: Call, index: number, outcome: SendOutcome): void {
    call.hold(index)
    this.#held.push({ call, index, outcome })
    if (this.#held.length === 1) this.#options.context.clock.defer(() => this.#tellHeld())
  }

  #tellHeld(): void {
    const held = this.#held
    this.#held = []
    for (const { call, index, outcome } of held) call.tellHeld(index, outcome)
  }

  async #close(deadline: Deadline): Promise<void> {
    const { clock } = this.#options.context
    this.#state = 'closing'
    this.#tellHeld()
    const outcome = notSent('the sender was closed')
    for (const call of this.#calls.waiting()) call.refuseUnwritten(outcome)
    this.#calls.clear()
    if (this.#watch.size > 0) {
      const idle = new Promise<void>((resolve) => void (this.#onIdle = resolve))
      await withDeadline(clock, deadline, () => idle, 'confirms').catch(() => undefined)
    }
    this.#state = 'closed'
    for (const call of this.#watch.items() as Call[]) call.giveUp(outcome, NOT_CONFIRMED)
    this.#watch.close()
    await this.#end(deadline)
  }

  async #end(deadline: Deadline): Promise<void> {
    const wires = [...this.#retired].map(({ wire }) => wire.close(deadline))
    await Promise.all([this.#supervisor.stop(deadline), this.#quarantine.close(deadline), ...wires])
  }
}
