import {
  HoldfastError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
  isHoldfastError,
  type PublishFacts,
} from '../../src/contract/errors.ts'

/** Reply codes of AMQP 0-9-1 that make a difference here. */
export const REPLY = {
  contentTooLarge: 311,
  noRoute: 312,
  connectionForced: 320,
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  channelError: 504,
  notAllowed: 530,
  notImplemented: 540,
  internalError: 541,
} as const

/** The code with which the broker closed a channel or connection; `null` when the error is none of the broker's. */
export function replyCodeOf(error: unknown): number | null {
  if (typeof error !== 'object' || error === null) return null
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  if (typeof code === 'number') return code
  return isHoldfastError(error) ? replyCodeOf(cause) : null
}

/** What the broker said, without the client's wrapping: "NOT_FOUND - no exchange 'x' in vhost '/'". */
export function brokerText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return /with message "(.*)"/s.exec(text)?.[1] ?? text
}

/**
 * Whether the same request may work soon, although the broker refused it: the node that has the queue
 * is down, a leader is being elected, a majority of the cluster is away.
 */
export function isPassing(error: unknown): boolean {
  const code = replyCodeOf(error)
  if (code === REPLY.internalError || code === REPLY.connectionForced) return true
  return code === REPLY.notFound && /down or inaccessible/.test(brokerText(error))
}

/** The connection or channel ended while something was under way. */
function connectionLost(doing: string, cause: unknown): HoldfastError {
  const text = `${doing}: the connection to RabbitMQ was lost: ${brokerText(cause)}`
  return new HoldfastError('connection-lost', text, { cause })
}

/**
 * The broker's refusal of a request of ours, named: what is missing is code `topology`, what a log-in
 * may not do or an argument that does not fit `rejected`, what may pass `unavailable`.
 */
export function refusedRequest(doing: string, error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error
  const code = replyCodeOf(error)
  const text = `${doing}: RabbitMQ said: ${brokerText(error)}`
  if (code === null) return connectionLost(doing, error)
  if (isPassing(error)) return new HoldfastError('unavailable', text, { cause: error })
  if (code === REPLY.notFound) return new HoldfastError('topology', text, { cause: error })
  return new HoldfastError('rejected', text, { cause: error })
}

/**
 * The refusal of a message that alone killed a fresh channel. The exchange is missing: unroutable; over
 * the broker's size: too large; no permission or a property the broker does not take: rejected.
 */
export function refusedMessage(error: unknown, facts: PublishFacts = {}): PublishRefusedError {
  const said = brokerText(error)
  const code = replyCodeOf(error)
  const more = { ...facts, cause: error }
  if (code === REPLY.notFound) {
    const text = `RabbitMQ has no such destination: ${said}; declare the topic with its groups, or let topology: 'create' make it`
    return new UnroutableError(text, more)
  }
  if (code === REPLY.contentTooLarge || /larger than|max(?:imum)? (?:message )?size/i.test(said)) {
    return new TooLargeError(`RabbitMQ does not take a body of that size: ${said}`, more)
  }
  return new PublishRefusedError('rejected', `RabbitMQ refused the message: ${said}`, more)
}
