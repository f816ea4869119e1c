import type { SendOutcome } from '../../src/contract/broker.ts'
import {
  type ErrorCode,
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
} from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'

/** Where an envelope goes, as an error text names it. */
export function destinationName(to: Destination): string {
  switch (to.kind) {
    case 'topic':
      return `topic "${to.topic}"`
    case 'group':
      return `group "${to.group}" of topic "${to.topic}"`
    case 'dead':
      return `dead letters of group "${to.group}" of topic "${to.topic}"`
    case 'reply':
      return `reply address "${to.address}"`
  }
}

/** The envelope is stored nowhere; `why` says what to do about it. */
export function refused(
  envelope: Envelope,
  code: ErrorCode,
  why: string,
  retryable = false,
): SendOutcome {
  const text = `${destinationName(envelope.to)}: ${why}`
  const error = new PublishRefusedError(code, text, { ...factsOf(envelope), retryable })
  return { status: 'refused', error }
}

export function unroutable(envelope: Envelope, why: string): SendOutcome {
  const text = `${destinationName(envelope.to)} cannot be reached: ${why}`
  return { status: 'refused', error: new UnroutableError(text, factsOf(envelope)) }
}

export function tooLarge(envelope: Envelope, bytes: number, limit: number): SendOutcome {
  const text = `${destinationName(envelope.to)}: the body has ${bytes} bytes, at most ${limit} are taken; raise maxBodyBytes or send less`
  return { status: 'refused', error: new TooLargeError(text, factsOf(envelope)) }
}

/** One message of a key ended other than confirmed, so what follows it must not be stored. */
export function behindFailed(envelope: Envelope): SendOutcome {
  return refused(
    envelope,
    'predecessor',
    `an earlier message of key ${JSON.stringify(envelope.orderKey)} in the same send was not confirmed`,
    true,
  )
}

/** Never written, because the deadline or the end of the sender came first. */
export function notSent(envelope: Envelope, why: string): SendOutcome {
  return refused(envelope, 'not-sent', `not sent ${why}`, true)
}

/** Written, and the word about it never came. */
export function unknown(envelope: Envelope, code: ErrorCode, why: string): SendOutcome {
  const text = `${destinationName(envelope.to)}: written, ${why}; it may be stored or not`
  return { status: 'unknown', error: new OutcomeUnknownError(code, text, factsOf(envelope)) }
}

function factsOf({ id, to }: Envelope): {
  readonly messageId: string | undefined
  readonly topic: string | undefined
} {
  return { messageId: id ?? undefined, topic: to.kind === 'reply' ? undefined : to.topic }
}
