import type { SendOutcome } from '../../src/contract/broker.ts'
import { OutcomeUnknownError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { brokerText, refusedMessage, REPLY, replyCodeOf } from './errors.ts'
import { isOpen, type InFlight } from './confirms.ts'
import type { KnownExchanges } from './known-exchanges.ts'
import { targetOf } from './outgoing.ts'
import type { Killing } from './publish-channel.ts'
import type { Topics } from './topics.ts'

/** What of a killed channel has to be written again, and what is known at once. */
export interface Isolated {
  /** Certainly not stored, and not acceptable: they killed it, or would have. */
  readonly culprits: readonly InFlight[]
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
 * Finds the culprits among what was in flight. The broker reads messages in order and nothing after the
 * one that closes the channel: what was written later is certainly not stored. What was written
 * earlier may be, its confirm lost, so writing it again may duplicate it. An exchange that the broker
 * never answered for was not there for anybody.
 */
export function isolate(
  { error, inFlight }: Killing,
  topics: Topics,
  known: Pick<KnownExchanges, 'has'>,
): Isolated {
  const suspects = inFlight.filter(({ call, index }) => {
    return isAbout(call.batch[index] as Envelope, error, topics)
  })
  const last = suspects.at(-1)
  for (const { call, index, tag } of inFlight) {
    if (last === undefined || tag < last.tag) call.doubt(index)
    else call.unwrite(index)
  }
  const exchange = exchangeOf(error)
  const isCertain = suspects.length === 1 || (exchange !== null && !known.has(exchange))
  const culprits = new Set(isCertain ? suspects : [])
  return {
    culprits: [...culprits].filter(isOpen),
    survivors: inFlight.filter((one) => !culprits.has(one) && isOpen(one)),
  }
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

/** The exchange that is missing or may not be written to at all; `null` when the error says something else. */
export function exchangeOf(error: Error): string | null {
  const name = /(?:no|access to) exchange '([^']*)'/.exec(brokerText(error))?.[1] ?? null
  return name === 'amq.default' ? '' : name
}

/** Whether the error fits the message: is about its exchange, or about something else than exchanges. */
export function isAbout(envelope: Envelope, error: Error, topics: Topics): boolean {
  const exchange = exchangeOf(error)
  return exchange === null || targetOf(envelope.to, topics) === exchange
}
