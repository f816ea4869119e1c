import type { SendOutcome } from '../../src/contract/broker.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  UnroutableError,
  type ErrorCode,
  type HoldfastError,
} from '../../src/contract/errors.ts'

// Made once: an error keeps alive what it was made in, and whoever collects errors would collect bodies.

/** Never written by its deadline. */
export const NOT_WRITTEN: SendOutcome = notSent(
  'it was not written to the connection by its deadline',
)

/** Written, and no word by its deadline. */
export const NOT_CONFIRMED: SendOutcome = unknown(
  'timeout',
  'RabbitMQ did not confirm it by its deadline',
)

/** One queue did not take it, while others it was routed to may have. */
export const NACKED: SendOutcome = unknown(
  'nacked',
  'RabbitMQ said nack: a queue is full and rejects publishes, or has no leader; other queues may have stored it',
)

/** The one queue it went to did not take it. */
export const NOT_TAKEN: SendOutcome = refused(
  'nacked',
  'RabbitMQ said nack: the queue is full and rejects publishes, or has no leader',
)

/** No word within `confirmTimeoutMs`. */
export const UNANSWERED: SendOutcome = unknown(
  'unanswered',
  'RabbitMQ neither confirmed nor rejected it within confirmTimeoutMs: a quorum queue may be without a majority',
)

/** A message with its id came back, and it may have been another one. */
export const ONE_OF_SEVERAL: SendOutcome = unknown(
  'unanswered',
  'RabbitMQ returned one of several messages with this id that were in flight at once, and does not say which',
)

/** Written twice, and the second one came back. */
export const STORED_OR_RETURNED: SendOutcome = unknown(
  'unanswered',
  'it was returned when it was written again, and may have found a queue the first time, whose confirm was lost',
)

/** For what was written when the connection went. */
export function connectionLost(cause: HoldfastError): SendOutcome {
  const text = `RabbitMQ did not confirm it before the connection was lost: ${cause.message}`
  return { status: 'unknown', error: new OutcomeUnknownError('connection-lost', text, { cause }) }
}

/** For what the broker returned: it is in no queue. `unknownTopic`: one of whose partitions nobody told this process. */
export function unroutable(
  exchange: string,
  routingKey: string,
  id: unknown,
  unknownTopic: string | null,
): SendOutcome {
  const where =
    exchange === ''
      ? `there is no queue "${routingKey}"`
      : `no queue is bound to exchange "${exchange}" for routing key "${routingKey}"`
  const partitions =
    unknownTopic === null
      ? ''
      : `; if the topic has partitions, say how many in topics.${unknownTopic}.partitions: this process was not told`
  const text = `RabbitMQ returned the message (312 NO_ROUTE): ${where}; declare the groups of the topic${partitions}`
  const facts = {
    ...(typeof id === 'string' && { messageId: id }),
    ...(unknownTopic !== null && { topic: unknownTopic }),
  }
  return { status: 'refused', error: new UnroutableError(text, facts) }
}

/** Refused, and worth trying again. */
export function notSent(why: string): SendOutcome {
  return refused('not-sent', `the message was not sent: ${why}`)
}

function refused(code: ErrorCode, text: string): SendOutcome {
  const error = new PublishRefusedError(code, text, { retryable: true })
  return Object.freeze({ status: 'refused', error })
}

function unknown(code: ErrorCode, text: string): SendOutcome {
  return Object.freeze({ status: 'unknown', error: new OutcomeUnknownError(code, text) })
}
