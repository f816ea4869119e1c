import type { Clock } from '../contract/clock.ts'
import { CodecError, HoldfastError, SchemaError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { ownHeaders } from '../contract/headers.ts'
import type { Envelope, Headers } from '../contract/message.ts'
import type { UuidSource } from '../contract/uuid.ts'
import type { AnySchema } from './consumed-topic.ts'
import type { DeadReason } from './dead-reasons.ts'
import { asError } from './failure.ts'
import type { Held } from './held.ts'
import { fitting, identityOf } from './identity.ts'
import { ReceivedMessage } from './message.ts'
import type { Eventually } from './value-or-promise.ts'

/** What opening needs. */
export interface OpenOptions {
  readonly group: string
  readonly identify: ((envelope: Envelope) => string | null) | null
  /** True: the identity is needed, for an inbox or an attempt store. */
  readonly identifies: boolean
  /** True: a message without identity is poison. */
  readonly requireId: boolean
  readonly ids: UuidSource
  readonly clock: Clock
  readonly emit: Emit
}

/**
 * Turns each delivery into a message, or gives it the outcome of one that no handler can get. Never
 * throws; costs a promise only where a schema validates asynchronously.
 */
export function openAll(slice: readonly Held[], options: OpenOptions): Eventually<void> {
  if (slice.length === 1) return open(slice[0] as Held, options)
  const steps: Promise<void>[] = []
  for (const held of slice) {
    const step = open(held, options)
    if (step instanceof Promise) steps.push(step)
  }
  return steps.length === 0 ? undefined : Promise.all(steps).then(() => undefined)
}

/** The payload is read anew for every try, so that a handler that changed it cannot harm the next. */
function open(held: Held, options: OpenOptions): Eventually<void> {
  held.outcome = null
  held.execution = null
  if (!held.opened) readOwnHeaders(held, options)
  if (held.remainingMs > 0) {
    held.outcome = { kind: 'early', ms: held.remainingMs }
    held.remainingMs = 0
    return undefined
  }
  if (held.expiresMs !== null && held.expiresMs <= options.clock.wallMs()) {
    return poison(held, 'expired', new HoldfastError('aborted', 'it expired before it was handled'))
  }
  try {
    identify(held, options)
  } catch (thrown) {
    return poison(held, 'no-id', asError(thrown))
  }
  return decode(held)
}

function readOwnHeaders(held: Held, { group, emit }: OpenOptions): void {
  const { delivery, topic } = held
  const { envelope, attempt } = delivery
  held.opened = true
  held.made = Math.max(0, attempt - 1)
  if (envelope.headers.length > 0) readHeaders(held, envelope.headers)
  if (!emit.wants('message.delivered')) return
  emit({
    type: 'message.delivered',
    topic: topic.name,
    group,
    id: envelope.id,
    attempt: held.attempt,
    at: delivery.at,
    redelivered: delivery.redelivered !== 'no',
  })
}

function readHeaders(held: Held, headers: Headers): void {
  for (const [name, value] of headers) {
    if (!name.startsWith('holdfast-') || typeof value !== 'string') continue
    if (name === ownHeaders.attempt) held.made = Math.max(held.made, wholeNumber(value, 0))
    else if (name === ownHeaders.remaining) held.remainingMs = wholeNumber(value, 0)
    else if (name === ownHeaders.expires)
      held.expiresMs = wholeNumber(value, Number.MAX_SAFE_INTEGER)
  }
}

/** A header that is not what we write is somebody else's and does not count. */
function wholeNumber(text: string, fallback: number): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : fallback
}

function identify(held: Held, options: OpenOptions): void {
  const { envelope } = held.delivery
  const own = options.identify?.(envelope) ?? null
  held.id = own ?? envelope.id
  if (!options.identifies || held.identity !== null) return
  held.identity = own === null ? identityOf(envelope) : fitting(own)
  if (held.identity !== null) return
  if (options.requireId) {
    throw new HoldfastError(
      'option',
      'the message has no id: give identify, or requireId: false to handle it without dedup',
    )
  }
  // A row of its own makes the transaction that the handler expects, and stands for no other message.
  held.identity = `undedupable:${options.ids.next()}`
  held.suspect = false
  const { attempt, at } = held.delivery
  const about = { topic: held.topic.name, group: options.group, id: null, attempt, at }
  options.emit({ type: 'message.undedupable', ...about })
}

function decode(held: Held): Eventually<void> {
  const { topic } = held.topic
  const { body } = held.delivery.envelope
  let payload: unknown = null
  try {
    // A tombstone has no bytes to decode: it is handed on as null.
    if (body !== null) payload = topic.codec.decode(body)
  } catch (cause) {
    const error =
      cause instanceof CodecError ? cause : new CodecError(asError(cause).message, { cause })
    return poison(held, 'codec', error)
  }
  if (topic.schema === null) return opened(held, payload)
  return validate(held, payload, topic.schema)
}

function validate(held: Held, payload: unknown, schema: AnySchema): Eventually<void> {
  const failed = (thrown: unknown): void => poison(held, 'schema', asError(thrown))
  try {
    const result = schema['~standard'].validate(payload)
    if (!(result instanceof Promise)) return judge(held, result)
    return result.then((value) => judge(held, value)).catch(failed)
  } catch (thrown) {
    return failed(thrown)
  }
}

/** What a schema says about a payload. */
type Validated = Awaited<ReturnType<AnySchema['~standard']['validate']>>

function judge(held: Held, result: Validated): void {
  if (result.issues === undefined) return opened(held, result.value)
  const issues = result.issues.map(({ path = [], message }) => ({
    path: path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.'),
    message,
  }))
  return poison(held, 'schema', new SchemaError(held.topic.name, issues))
}

function opened(held: Held, payload: unknown): void {
  const { envelope, redelivered } = held.delivery
  const { id, topic } = held
  held.message = new ReceivedMessage(payload, topic.name, id, envelope, redelivered)
}

function poison(held: Held, reason: DeadReason, error: Error): void {
  held.outcome = { kind: 'poison', reason, error }
}
