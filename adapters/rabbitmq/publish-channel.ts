import type { Deadline, SendOutcome } from '../../src/contract/broker.ts'
import type { Cancel, Clock } from '../../src/contract/clock.ts'
import { ClosedError, type HoldfastError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Call } from './call.ts'
import type { ConfirmChannel, Message } from './client.ts'
import { Confirms, isOpen, type Answered, type InFlight } from './confirms.ts'
import {
  connectionLost,
  NACKED,
  NOT_TAKEN,
  ONE_OF_SEVERAL,
  STORED_OR_RETURNED,
  UNANSWERED,
  unroutable,
} from './outcomes.ts'
import { goesToOneQuorumQueue, mayHaveGoneTo, targetOf, type Outgoing } from './outgoing.ts'
import { bareConfirms, type Writer } from './publish-writer.ts'
import type { Topics } from './topics.ts'
import { RETURN_MARK } from './wire-headers.ts'
import type { Wire } from './wire.ts'

/** Bodies on their way at most; one message always fits. */
const MOST_BYTES = 4 * 1024 * 1024
/** Names of exchanges remembered; beyond it nothing is said about the others. */
const MOST_EXCHANGES = 1_000

/** Who writes to a publish channel. */
export interface ChannelOwner {
  /** Answers came, or the broker takes messages again: there may be room. */
  room(channel: PublishChannel): void
  /** The broker closed the channel; nobody was told about what was in flight. */
  killed(channel: PublishChannel, killing: Killing): void
  /** Messages were not confirmed in time and reported so; nothing more is written here. */
  unanswered(channel: PublishChannel): void
  /** The wire is gone; all that was in flight is reported. */
  lost(channel: PublishChannel, error: HoldfastError): void
}

interface Written {
  readonly exchange: string
  count: number
}

/** What is known when the broker closes a channel. */
export interface Killing {
  readonly error: Error
  /** Everything unanswered, in the order it was written, also what was reported already. */
  readonly inFlight: readonly InFlight[]
}

/** What a publish channel is made of. */
export interface PublishChannelOptions {
  readonly clock: Clock
  readonly topics: Topics
  readonly window: number
  readonly confirmTimeoutMs: number
  readonly owner: ChannelOwner
}

/**
 * One confirm channel and the book of what is on it. Confirms, nacks and returns are reported here;
 * what concerns the channel as a whole is its owner's.
 */
export class PublishChannel {
  readonly wire: Wire
  readonly #options: PublishChannelOptions
  readonly #confirms: Confirms
  readonly #writer: Writer
  /** How much was written to each exchange. */
  readonly #written = new Map<string, Written>()
  #last: Written = { exchange: '', count: 0 }
  #state: 'open' | 'retired' | 'over' = 'open'
  #cancel: Cancel | null = null
  /** When the broker began to block, and how long it did before: the confirm timeout stands still. */
  #blockedAt: number | null = null
  #blockedMs = 0

  /** Rejects by the deadline. */
  static async open(
    wire: Wire,
    deadline: Deadline,
    options: PublishChannelOptions,
  ): Promise<PublishChannel> {
    return new PublishChannel(wire, await wire.confirmChannel(deadline), options)
  }

  private constructor(wire: Wire, channel: ConfirmChannel, options: PublishChannelOptions) {
    this.wire = wire
    this.#options = options
    this.#confirms = new Confirms(options.window)
    this.#writer = bareConfirms(channel)
    channel.on('ack', ({ deliveryTag, multiple }) => this.#settle(deliveryTag, multiple, acked))
    channel.on('nack', ({ deliveryTag, multiple }) =>
      this.#settle(deliveryTag, multiple, this.#nacked),
    )
    channel.on('return', (message) => this.#returned(message))
    channel.on('error', (error) => this.#killed(error))
    channel.on('close', () => this.#closed())
    wire.onBlocked((reason) => this.#blocked(reason))
    wire.onClose((error) => this.#lost(error))
  }

  /** Whether one more message may be written now. */
  get hasRoom(): boolean {
    const { unanswered, bytes } = this.#confirms
    if (this.#state !== 'open' || this.wire.blocked !== null) return false
    return unanswered === 0 || (unanswered < this.#options.window && bytes < MOST_BYTES)
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Messages without an answer. */
  get unanswered(): number {
    return this.#confirms.unanswered
  }

  /** Whether anything is in flight that was not reported. */
  get hasOpen(): boolean {
    return this.#confirms.all().some(isOpen)
  }

  /** Writes one message, which leaves with `flush`. Throws amqplib's error when it cannot be encoded; nothing was written then. */
  write(call: Call, index: number, message: Outgoing): void {
    const { options, exchange, content } = message
    const tag = this.#confirms.nextTag
    if (options.messageId === undefined) options.headers[RETURN_MARK] = String(tag)
    this.#writer.write(message)
    call.wrote(index)
    this.#confirms.add(call, index, content.length, this.#now())
    if (exchange !== this.#last.exchange || this.#last.count === 0) this.#turnTo(exchange)
    this.#last.count++
    if (this.#cancel === null) this.#arm()
  }

  /** What was written is on its way. */
  flush(): void {
    this.#writer.flush()
  }

  /** Nothing more is written; what is in flight is waited for. */
  retire(): void {
    if (this.#state === 'open') this.#state = 'retired'
  }

  /** Exchanges that the broker has answered for on this channel: they existed. `null`: they were too many to count. */
  answeredExchanges(): readonly string[] | null {
    const { topics } = this.#options
    if (this.#written.size >= MOST_EXCHANGES) return null
    const open = new Map<string, number>()
    for (const { call, index } of this.#confirms.all()) {
      const exchange = targetOf((call.batch[index] as Envelope).to, topics)
      open.set(exchange, (open.get(exchange) ?? 0) + 1)
    }
    const answered = [...this.#written.values()].filter(({ exchange, count }) => {
      return count > (open.get(exchange) ?? 0)
    })
    return answered.map(({ exchange }) => exchange)
  }

  #settle(tag: number, multiple: boolean, answered: Answered): void {
    if (this.#state === 'over') return
    this.#confirms.settle(tag, multiple, answered)
    if (this.#state === 'retired') this.#leaveWhenDone()
    else this.#options.owner.room(this)
  }

  readonly #nacked: Answered = (call, from, to, instead) => {
    for (let index = from; index < to; index++) {
      call.end(index, index + 1, instead ?? this.#nackOf(call, index))
    }
  }

  /** What was written before on a channel that was killed may be stored all the same. */
  #nackOf(call: Call, index: number): SendOutcome {
    const { to } = call.batch[index] as Envelope
    const isAlone = !call.isDoubtful(index) && goesToOneQuorumQueue(to, this.#options.topics)
    return isAlone ? NOT_TAKEN : NACKED
  }

  /** Comes before the confirm of the same message, which then means nothing. */
  #returned({ fields, properties }: Message): void {
    const { exchange, routingKey } = fields
    const id: unknown = properties.messageId
    const mark: unknown = properties.headers?.[RETURN_MARK]
    const meant =
      typeof mark === 'string'
        ? this.#confirms.withTag(Number(mark))
        : this.#meant(id, exchange, routingKey)
    const [first] = meant
    if (first === undefined) return
    // One id in flight more than once to one place: which of them came back is not said.
    const instead =
      meant.length > 1
        ? ONE_OF_SEVERAL
        : unroutable(exchange, routingKey, id, this.#unknownTopicOf(first))
    for (const { tag, call, index } of meant) {
      // Written before on a channel that was killed, it may have found a queue then.
      const outcome = call.isDoubtful(index) ? STORED_OR_RETURNED : instead
      this.#confirms.insteadOf(tag, outcome)
    }
  }

  /** `null` when it went elsewhere, or to a topic of which this process knows. */
  #unknownTopicOf({ call, index }: InFlight): string | null {
    const { to } = call.batch[index] as Envelope
    return to.kind === 'topic' && !this.#options.topics.of(to.topic).isKnown ? to.topic : null
  }

  /** Those with the id that went there; all with the id when it is not known any more where that was. */
  #meant(id: unknown, exchange: string, routingKey: string): readonly InFlight[] {
    const { topics } = this.#options
    const sameId = this.#confirms.withId(id)
    const there = sameId.filter(({ call, index }) =>
      mayHaveGoneTo(call.batch[index] as Envelope, exchange, routingKey, topics),
    )
    return there.length > 0 ? there : sameId
  }

  #killed(error: Error): void {
    if (this.#state === 'over') return
    this.#options.owner.killed(this, { error, inFlight: this.#end() })
  }

  /** Without an error before, the wire is closing and says so in the same turn; else nobody knows why. */
  #closed(): void {
    if (this.#state === 'over') return
    this.#state = 'retired'
    this.#options.clock.defer(() => this.wire.destroy(new Error('a channel closed by itself')))
  }

  #lost(error: HoldfastError): void {
    if (this.#state === 'over') return
    reportAll(this.#end().filter(isOpen), connectionLost(error))
    this.#options.owner.lost(this, error)
  }

  /** What was returned is known without its confirm. */
  #end(): readonly InFlight[] {
    this.#state = 'over'
    this.#disarm()
    const inFlight = this.#confirms.all()
    for (const { tag, call, index } of inFlight) {
      const instead = this.#confirms.instead(tag)
      if (instead !== null && call.isOpen(index)) call.end(index, index + 1, instead)
    }
    return inFlight
  }

  #blocked(reason: string | null): void {
    const now = this.#options.clock.now()
    if (reason !== null) {
      this.#blockedAt ??= now
      return this.#disarm()
    }
    if (this.#blockedAt !== null) this.#blockedMs += now - this.#blockedAt
    this.#blockedAt = null
    this.#arm()
    this.#options.owner.room(this)
  }

  /** Time as confirms see it: without the time in which the broker was blocking. */
  #now(): number {
    return (this.#blockedAt ?? this.#options.clock.now()) - this.#blockedMs
  }

  #arm(): void {
    const oldestAt = this.#confirms.oldestAt
    if (oldestAt === null || this.#blockedAt !== null || this.#state === 'over') return
    const { clock, confirmTimeoutMs } = this.#options
    const leftMs = oldestAt + confirmTimeoutMs - this.#now()
    this.#cancel = clock.after(leftMs, () => this.#check())
  }

  #disarm(): void {
    this.#cancel?.()
    this.#cancel = null
  }

  #check(): void {
    this.#cancel = null
    const before = this.#now() - this.#options.confirmTimeoutMs + 1
    const overdue = this.#confirms.addedBefore(before).filter(isOpen)
    if (overdue.length > 0) {
      this.retire()
      reportAll(overdue, UNANSWERED)
      this.#options.owner.unanswered(this)
    }
    if (this.hasOpen) this.#look()
    else this.#leaveWhenDone()
  }

  /** What was reported stays in the book, so the oldest there does not say when the next look is due. */
  #look(): void {
    const { clock, confirmTimeoutMs } = this.#options
    if (this.#blockedAt !== null || this.#state === 'over') return
    this.#cancel = clock.after(confirmTimeoutMs / 10, () => this.#check())
  }

  /** A retired channel's wire has no other use. */
  #leaveWhenDone(): void {
    if (this.#state === 'retired' && !this.hasOpen)
      this.wire.destroy(new ClosedError('the channel'))
  }

  #turnTo(exchange: string): void {
    const known = this.#written.get(exchange)
    this.#last = known ?? { exchange, count: 0 }
    if (known === undefined && this.#written.size < MOST_EXCHANGES) {
      this.#written.set(exchange, this.#last)
    }
  }
}

/** Reports neighbours of one call together. */
export function reportAll(inFlight: readonly InFlight[], outcome: SendOutcome): void {
  for (let at = 0; at < inFlight.length;) {
    const { call, index } = inFlight[at] as InFlight
    let count = 1
    while (inFlight[at + count]?.call === call && inFlight[at + count]?.index === index + count) {
      count++
    }
    call.end(index, index + count, outcome)
    at += count
  }
}

const acked: Answered = (call, from, to, instead) => {
  if (instead === null) call.confirm(from, to)
  else call.end(from, to, instead)
}
