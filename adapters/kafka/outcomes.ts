import type { SendOutcome, StoredAt } from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  type PublishFacts,
} from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'

// Made once: an error keeps alive what it was made in, and whoever collects errors would collect bodies.

/** Never written by its deadline. */
export const NOT_WRITTEN: SendOutcome = notSent('it could not be written by its deadline')

/** Written, and no word by its deadline. */
export const NOT_CONFIRMED: SendOutcome = Object.freeze({
  status: 'unknown',
  error: new OutcomeUnknownError('timeout', 'Kafka did not confirm it by its deadline'),
})

/** One of its key ended badly before it in the same call. */
export const PREDECESSOR: SendOutcome = Object.freeze({
  status: 'refused',
  error: new PublishRefusedError(
    'predecessor',
    'the message was not sent: an earlier one of its key was not stored',
    { retryable: true },
  ),
})

/** Refused, and worth trying again. */
export function notSent(why: string): SendOutcome {
  const text = `the message was not sent: ${why}`
  const error = new PublishRefusedError('not-sent', text, { retryable: true })
  return Object.freeze({ status: 'refused', error })
}

/** Stored: outcome and place in one object, since every message has one. */
export class Stored implements StoredAt {
  readonly status = 'confirmed'
  readonly partition: number
  readonly #base: bigint
  readonly #index: number

  /** `base`: offset of the first record of its batch. */
  constructor(partition: number, base: bigint, index: number) {
    this.partition = partition
    this.#base = base
    this.#index = index
  }

  get at(): StoredAt {
    return this
  }

  /** Becomes a text when somebody looks at it. */
  get offset(): string {
    return offsetText(this.#base, this.#index)
  }
}

function offsetText(base: bigint, index: number): string {
  const sum = Number(base) + index
  return Number.isSafeInteger(sum) ? String(sum) : String(base + BigInt(index))
}

/** Throws when the body alone is over what was said to be the limit. */
export function checkBody(envelope: Envelope, limits: Capabilities['limits']): void {
  const { to, body } = envelope
  if (to.kind !== 'topic' || body === null) return
  const { maxBodyBytes } = limits(to.topic)
  if (body.length <= maxBodyBytes) return
  const text = `the body has ${body.length} bytes, at most ${maxBodyBytes} go to ${nameOf(to)}: raise max.message.bytes of the topic, or send less`
  throw new TooLargeError(text, factsOf(envelope))
}

/** With key and headers it is over what the topic takes. */
export function recordTooLarge(limit: number, topic: string, envelope: Envelope): TooLargeError {
  const text = `the message with its key and headers is over ${limit} bytes, which is max.message.bytes of ${topic}: raise it, or send less`
  return new TooLargeError(text, factsOf(envelope))
}

/** What is wrong with it alone. */
export function refusal(error: unknown, envelope: Envelope): SendOutcome {
  if (error instanceof PublishRefusedError) return { status: 'refused', error }
  const why = error instanceof Error ? error.message : String(error)
  const facts = { ...factsOf(envelope), cause: error }
  return { status: 'refused', error: new PublishRefusedError('rejected', why, facts) }
}

function factsOf({ id, to }: Envelope): PublishFacts {
  return {
    topic: to.kind === 'reply' ? undefined : to.topic,
    ...(id === null ? {} : { messageId: id }),
  }
}

function nameOf(to: Destination): string {
  if (to.kind === 'reply') return to.address
  return to.kind === 'topic' ? `topic "${to.topic}"` : `group "${to.group}" of "${to.topic}"`
}
