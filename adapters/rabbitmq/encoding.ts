import type { SendOutcome } from '../../src/contract/broker.ts'
import { PublishRefusedError, TooLargeError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'

/** For a message that cannot be written as AMQP: nothing of it was sent, and trying again is the same. */
export function encodingRefusal(error: unknown, { id, to }: Envelope): SendOutcome {
  const said = error instanceof Error ? error.message : String(error)
  const topic = to.kind === 'reply' ? undefined : to.topic
  const facts = { topic, messageId: id ?? undefined, cause: error }
  // amqplib encodes headers into a buffer of 64 KiB.
  if (error instanceof RangeError) {
    const text = `the headers are larger than the 64 KiB that fit a message: ${said}`
    return { status: 'refused', error: new TooLargeError(text, facts) }
  }
  const text = `the message cannot be written as AMQP: ${said}`
  return { status: 'refused', error: new PublishRefusedError('rejected', text, facts) }
}

/** For a body over what is allowed; known before anything is written. */
export function tooLarge(bytes: number, most: number, { id, to }: Envelope): SendOutcome {
  const topic = to.kind === 'reply' ? undefined : to.topic
  const text = `the body has ${bytes} bytes, at most ${most} are allowed; raise maxBodyBytes, and max_message_size of the broker, or store it elsewhere and send a reference`
  const error = new TooLargeError(text, { topic, messageId: id ?? undefined })
  return { status: 'refused', error }
}
