import type { SendOutcome } from '../../src/contract/broker.ts'
import { OutcomeUnknownError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { brokerText, refusedMessage, REPLY, replyCodeOf } from './errors.ts'
import type { InFlight } from './confirms.ts'
import { outgoing } from './outgoing.ts'
import type { Killing } from './publish-channel.ts'
import type { Topics } from './topics.ts'

/** What of a killed channel has to be written again, and what is known at once. */
export interface Isolated {
  /** The one that killed it, when it can be no other, and its end. */
  readonly culprit: { readonly message: InFlight; readonly outcome: SendOutcome } | null
  /** Those to write again one at a time, in their order. */
  readonly survivors: readonly InFlight[]
}

/** Codes with which the broker says that one message was not acceptable. */
const faults: ReadonlySet<number> = new Set([
  REPLY.contentTooLarge,
  REPLY.accessRefused,
  REPLY.notFound,
  REPLY.preconditionFailed,
])

/** Whether a message, and not the broker's own trouble, can have closed the channel. */
export function isMessageFault(error: Error): boolean {
  return faults.has(replyCodeOf(error) ?? 0)
}

/**
 * Finds the culprit among what was in flight. The broker reads messages in order and nothing after the
 * one that closes the channel: what was written later is certainly not stored. What was written
 * earlier may be, its confirm lost, so writing it again may duplicate it.
 */
export function isolate({ error, inFlight }: Killing, topics: Topics): Isolated {
  const suspects = inFlight.filter(({ call, index }) => {
    return couldBe(call.batch[index] as Envelope, error, topics)
  })
  const last = suspects.at(-1)
  const message = suspects.length === 1 ? (suspects[0] as InFlight) : null
  for (const { call, index, tag } of inFlight) {
    if (last === undefined || tag < last.tag) call.doubt(index)
    else call.unwrite(index)
  }
  const survivors = inFlight.filter((one) => one !== message && one.call.isOpen(one.index))
  if (message === null || !message.call.isOpen(message.index)) return { culprit: null, survivors }
  const { call, index } = message
  return { culprit: { message, outcome: refusal(call.batch[index] as Envelope, error) }, survivors }
}

/** For the message that closed a channel on which it was alone. */
export function refusal({ id, to }: Envelope, error: Error): SendOutcome {
  const topic = to.kind === 'reply' ? undefined : to.topic
  const facts = { topic, messageId: id ?? undefined }
  return { status: 'refused', error: refusedMessage(error, facts) }
}

/** When the exchange was there before, it may have gone after this message was stored. */
export function perhapsStored(error: Error): SendOutcome {
  const text = `it may have been stored before RabbitMQ began to refuse it: ${brokerText(error)}`
  const unknown = new OutcomeUnknownError('connection-lost', text, { cause: error })
  return { status: 'unknown', error: unknown }
}

/** The exchange that a 404 or 403 is about; `null` when it names none. */
export function exchangeOf(error: Error): string | null {
  const name = /exchange '([^']*)'/.exec(brokerText(error))?.[1] ?? null
  return name === 'amq.default' ? '' : name
}

/** Whether the error fits the message: names its exchange, or none. */
function couldBe(envelope: Envelope, error: Error, topics: Topics): boolean {
  const exchange = exchangeOf(error)
  return exchange === null || outgoing(envelope, topics).exchange === exchange
}
