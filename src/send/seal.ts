import type { StandardSchemaV1 } from '@standard-schema/spec'

import type { Ordering } from '../contract/capabilities.ts'
import type { Clock } from '../contract/clock.ts'
import { CodecError, HoldfastError, OptionError, SchemaError, shown } from '../contract/errors.ts'
import { isOwnHeader, ownHeaders } from '../contract/headers.ts'
import type { Envelope, Headers, HeaderValue } from '../contract/message.ts'
import { headerOf, NO_HEADERS } from '../contract/message.ts'
import { refuseUnknownOptions } from '../contract/option.ts'
import type { Topic } from '../contract/topic.ts'
import type { UuidSource } from '../contract/uuid.ts'

/** What may be said about one message when it is published. */
export interface PublishOptions {
  /** Default: the topic's `key` of the payload. */
  readonly key?: string
  /** Identity for dedup, 1 to 255 characters. Default: a new UUID version 7. */
  readonly id?: string
  readonly headers?: Headers | Readonly<Record<string, HeaderValue>>
  /** Unix milliseconds before which it must not be delivered. */
  readonly deliverAt?: number
  /** Unix milliseconds after which consumers do not handle it any more. */
  readonly expiresAt?: number
  /** How long the publish may take in all, in milliseconds; the publisher's `deadlineMs` by default. */
  readonly deadlineMs?: number
  /** Gives the publish up: refused when it was not written yet, else unknown. */
  readonly signal?: AbortSignal
}

/** An envelope that carries an id, as everything that is published does. */
export type SealedEnvelope = Envelope & { readonly id: string }

/** What sealing needs beside the message. */
export interface Sealing {
  /** CloudEvents `source` of everything this process publishes. */
  readonly source: string
  readonly ids: UuidSource
  readonly clock: Clock
  /** The current W3C trace context, for messages that bring none. */
  readonly traceparent?: () => string | undefined
}

const optionNames: readonly (keyof PublishOptions)[] = [
  'key',
  'id',
  'headers',
  'deliverAt',
  'expiresAt',
  'deadlineMs',
  'signal',
]
const LONGEST_ID = 255
const noOptions: PublishOptions = Object.freeze({})

/**
 * Turns a message into the bytes and metadata that travel: validates, encodes, chooses id and key.
 * Does no I/O. Throws a `SchemaError`, `CodecError` or `OptionError`, and then nothing was sent.
 */
export function seal<In>(
  topic: Topic<In, unknown>,
  payload: In,
  options: PublishOptions | undefined,
  sealing: Sealing,
): SealedEnvelope {
  const given = options === undefined ? noOptions : options
  if (given !== noOptions) refuseUnknownOptions('publish', given, optionNames)
  if (topic.schema !== null) validate(topic, payload)
  const key = keyOf(topic, payload, given)
  const own = given.id === undefined
  return {
    id: own ? sealing.ids.next() : checkedId(given.id),
    type: topic.type,
    producer: sealing.source,
    to: { kind: 'topic', topic: topic.name },
    key: key === null ? null : Buffer.from(key, 'utf8'),
    orderKey: orderKeyFor(topic.ordering, key),
    body: encode(topic, payload),
    headers: headersFor(given, sealing),
    contentType: topic.codec.contentType,
    timeMs: own ? sealing.ids.lastMs : sealing.clock.wallMs(),
    deliverAtMs: given.deliverAt === undefined ? null : instant('deliverAt', given.deliverAt),
  }
}

function validate<In>(topic: Topic<In, unknown>, payload: In): void {
  if (topic.schema === null) return
  const result = checked(topic, topic.schema, payload)
  if (result instanceof Promise) {
    // Nobody waits for it any more; its failure must not become an unhandled rejection.
    result.catch(() => undefined)
    throw new SchemaError(topic.name, [
      {
        path: '',
        message: 'the schema validates asynchronously, which publishing cannot wait for',
      },
    ])
  }
  if (result.issues === undefined) return
  throw new SchemaError(
    topic.name,
    result.issues.map(({ path, message }) => ({ path: pathText(path), message })),
  )
}

function checked<In>(
  { name }: Topic<In, unknown>,
  schema: StandardSchemaV1<In, unknown>,
  payload: In,
): ReturnType<StandardSchemaV1<In, unknown>['~standard']['validate']> {
  try {
    return schema['~standard'].validate(payload)
  } catch (cause) {
    throw thrownBy('schema', name, cause)
  }
}

function pathText(path: readonly (PropertyKey | { readonly key: PropertyKey })[] = []): string {
  return path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.')
}

function keyOf<In>(topic: Topic<In, unknown>, payload: In, given: PublishOptions): string | null {
  if (given.key === undefined && topic.key === null) return null
  const key: unknown = given.key ?? ownKey(topic, payload)
  if (typeof key === 'string') return key
  throw new OptionError(`key of topic "${topic.name}"`, key, 'a text')
}

function ownKey<In>({ name, key }: Topic<In, unknown>, payload: In): unknown {
  try {
    return key?.(payload)
  } catch (cause) {
    throw thrownBy('key', name, cause)
  }
}

/** Functions of the user may throw anything: what they throw is told with where it came from. */
function thrownBy(what: 'key' | 'schema', topic: string, cause: unknown): HoldfastError {
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = what === 'schema' ? 'schema' : 'option'
  return new HoldfastError(code, `the ${what} of topic "${topic}" threw: ${text}`, { cause, topic })
}

/** Where whole partitions keep their order, nothing of the topic may overtake anything else of it. */
function orderKeyFor(ordering: Ordering, key: string | null): string | null {
  if (ordering === 'none') return null
  return ordering === 'key' ? key : ''
}

function checkedId(id: string): string {
  if (typeof id === 'string' && id.length > 0 && id.length <= LONGEST_ID) return id
  throw new OptionError('publish.id', id, `a text of 1 to ${LONGEST_ID} characters`)
}

function instant(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value
  throw new OptionError(`publish.${name}`, value, 'Unix milliseconds, a whole number, 0 or more')
}

function encode<In>(topic: Topic<In, unknown>, payload: In): Uint8Array {
  const bytes = encoded(topic, payload)
  if (bytes instanceof Uint8Array) return bytes
  throw new CodecError(`topic "${topic.name}": the codec returned ${shown(bytes)} instead of bytes`)
}

function encoded<In>(topic: Topic<In, unknown>, payload: In): Uint8Array {
  try {
    return topic.codec.encode(payload)
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause)
    throw new CodecError(`topic "${topic.name}": ${text}`, { cause, topic: topic.name })
  }
}

function headersFor(given: PublishOptions, sealing: Sealing): Headers {
  const { traceparent } = sealing
  if (given.headers === undefined && given.expiresAt === undefined && traceparent === undefined) {
    return NO_HEADERS
  }
  const headers = [...userHeaders(given.headers)]
  if (traceparent !== undefined && headerOf(headers, 'traceparent') === undefined) {
    const current = traceparent()
    if (current !== undefined) headers.push(['traceparent', current])
  }
  if (given.expiresAt !== undefined) {
    headers.push([ownHeaders.expires, String(instant('expiresAt', given.expiresAt))])
  }
  return headers
}

function userHeaders(given: PublishOptions['headers']): Headers {
  if (given === undefined) return NO_HEADERS
  if (typeof given !== 'object' || given === null) {
    throw new OptionError('publish.headers', given, 'a record or a list of [name, value]')
  }
  const headers = isHeaders(given) ? given : Object.entries(given)
  for (const header of headers) {
    if (!Array.isArray(header)) throw new OptionError('publish.headers', header, '[name, value]')
    checkHeader(header[0], header[1])
  }
  return headers
}

function isHeaders(given: Headers | Readonly<Record<string, HeaderValue>>): given is Headers {
  return Array.isArray(given)
}

function checkHeader(name: unknown, value: unknown): void {
  if (typeof name !== 'string' || name.length === 0 || isOwnHeader(name)) {
    throw new OptionError(
      'publish.headers',
      name,
      'names that are not empty and do not start with "holdfast-"',
    )
  }
  if (typeof value === 'string' || value === null || value instanceof Uint8Array) return
  throw new OptionError(`publish.headers.${name}`, value, 'a text, bytes or null')
}
