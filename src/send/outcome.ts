import type { ErrorCode, HoldfastError, PublishFacts } from '../contract/errors.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
} from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { Pending } from './pending.ts'

/** The two ways a send can fail. */
export type SendError = PublishRefusedError | OutcomeUnknownError

/** Whose trouble an error tells of: the connection's, the destination's, or only the message's. */
export function troubleOf(code: ErrorCode): 'connection' | 'destination' | 'message' {
  switch (code) {
    case 'connection-lost':
    case 'unavailable':
      return 'connection'
    case 'nacked':
    case 'rejected':
    case 'timeout':
    case 'unanswered':
      return 'destination'
    default:
      return 'message'
  }
}

/** A destination that said no says so for a while: how long it is left alone at least, in milliseconds. */
export function leastDelayOf(code: ErrorCode): number {
  return code === 'nacked' ? 1_000 : 0
}

/** How an envelope ends that is not tried again, after the broker's last word. */
export function givenUp(pending: Pending): HoldfastError {
  const { unknown, lastError } = pending
  if (unknown !== null) return mayBeStored(pending, unknown.code, unknown.message)
  if (lastError instanceof PublishRefusedError) return refusedAs(lastError, factsOf(pending))
  return notSent(pending, 'it was given up')
}

/** How an envelope ends whose deadline passed. */
export function outOfTime(pending: Pending): HoldfastError {
  if (pending.unknown !== null)
    return mayBeStored(pending, pending.unknown.code, pending.unknown.message)
  if (pending.handOver !== null) {
    return mayBeStored(pending, 'timeout', 'the broker did not answer before the deadline')
  }
  return notSent(pending, `the deadline passed${lastWords(pending)}`)
}

/** How an envelope ends that its caller gave up. */
export function aborted(pending: Pending, reason: unknown): HoldfastError {
  if (pending.unknown !== null || pending.handOver !== null) {
    return mayBeStored(pending, 'unanswered', 'the signal aborted after it was handed over', reason)
  }
  const text = `message ${pending.envelope.id} was not sent: its signal aborted`
  return new PublishRefusedError('aborted', text, { ...factsOf(pending), cause: reason })
}

/** How an envelope ends that was not handed over when everything closed. */
export function closedBefore(pending: Pending): HoldfastError {
  if (pending.unknown !== null || pending.handOver !== null) {
    return mayBeStored(pending, 'unanswered', 'it was closed before the broker answered')
  }
  return notSent(pending, 'it was closed before that')
}

/** How an envelope ends whose key's predecessor ended badly, where that ends followers too. */
export function behindGivenUp(pending: Pending): HoldfastError {
  if (pending.unknown !== null) return givenUp(pending)
  const text = `message ${pending.envelope.id} was not sent: an earlier one of its key was given up`
  return new PublishRefusedError('predecessor', text, { ...factsOf(pending), retryable: true })
}

/** How an envelope ends for which the broker or its destination cannot be made ready. */
export function unprepared(pending: Pending, code: ErrorCode, cause: unknown): HoldfastError {
  if (pending.unknown !== null) return givenUp(pending)
  const why = cause instanceof Error ? cause.message : String(cause)
  const text = `message ${pending.envelope.id} was not sent to "${pending.route.name}": ${why}`
  return new PublishRefusedError(code, text, { ...factsOf(pending), cause, retryable: true })
}

/** How an envelope ends that the broker would not take. */
export function tooLarge(pending: Pending, bytes: number, most: number): HoldfastError {
  if (pending.unknown !== null) return givenUp(pending)
  const { envelope, route } = pending
  return new TooLargeError(sizeText(envelope, route.name, bytes, most), factsOf(pending))
}

/** Throws a `TooLargeError` when the broker would not take the body. */
export function checkSize(
  envelope: Envelope,
  topic: string,
  { maxBodyBytes }: { readonly maxBodyBytes: number },
): void {
  const bytes = envelope.body?.length ?? 0
  if (bytes <= maxBodyBytes) return
  const text = sizeText(envelope, topic, bytes, maxBodyBytes)
  throw new TooLargeError(text, { topic, messageId: envelope.id ?? undefined })
}

function sizeText(envelope: Envelope, where: string, bytes: number, most: number): string {
  return `message ${envelope.id} has ${bytes} bytes, "${where}" takes at most ${most}: store the body elsewhere and send a reference, or raise the broker's limit`
}

/** Definitely not stored, because time or life was over before the broker could take it. */
export function notSent(pending: Pending, why: string): PublishRefusedError {
  const text = `message ${pending.envelope.id} for "${pending.route.name}" is not stored: ${why}`
  const cause = pending.lastError ?? undefined
  return new PublishRefusedError('not-sent', text, { ...factsOf(pending), cause, retryable: true })
}

function mayBeStored(
  pending: Pending,
  code: ErrorCode,
  why: string,
  cause: unknown = pending.lastError ?? undefined,
): OutcomeUnknownError {
  return new OutcomeUnknownError(
    code,
    `message ${pending.envelope.id} for "${pending.route.name}" may or may not be stored: ${why}; publishing it again with the same id is safe behind an inbox`,
    { ...factsOf(pending), cause },
  )
}

/** The caller itself cannot publish now; nothing was taken in. */
export function refusedTo(envelope: Envelope, error: PublishRefusedError): PublishRefusedError {
  const topic = envelope.to.kind === 'reply' ? undefined : envelope.to.topic
  return refusedAs(error, { topic, messageId: envelope.id ?? undefined })
}

/** One error object may have been reported for many envelopes; each gets its own, of the same class. */
function refusedAs(error: PublishRefusedError, facts: PublishFacts): PublishRefusedError {
  const all = { ...facts, cause: error, retryable: error.retryable }
  switch (error.code) {
    case 'unroutable':
      return new UnroutableError(error.message, all)
    case 'too-large':
      return new TooLargeError(error.message, all)
    default:
      return new PublishRefusedError(error.code, error.message, all)
  }
}

function factsOf({ route, envelope, attempts }: Pending): PublishFacts {
  return { topic: route.topic ?? undefined, messageId: envelope.id ?? undefined, attempts }
}

function lastWords({ lastError }: Pending): string {
  return lastError === null ? '' : `; the last attempt ended: ${lastError.message}`
}
