import { isUtf8 } from 'node:buffer'

import type { Ordering } from '../../src/contract/capabilities.ts'
import {
  NO_HEADERS,
  type Destination,
  type Envelope,
  type Headers,
  type HeaderValue,
} from '../../src/contract/message.ts'
import { orderKeyOf } from '../../src/contract/order-key.ts'
import { byteMarked, BYTES } from './byte-headers.ts'
import { ATTRIBUTES, ORIGIN } from './cloud-events.ts'
import type { FetchedRecord, RecordHeaders, TopicPartition } from './driver.ts'
import { Native } from './native.ts'
import { timeIn } from './time-bytes.ts'

/** Where a record was read, and as what. */
export interface ReadAt extends TopicPartition {
  readonly to: Destination
  readonly ordering: Ordering
  /** Name of its source. */
  readonly name: string
}

/**
 * A received record as an envelope, whoever wrote it: CloudEvents attributes where it has them, else what
 * Kafka has. A record without an id is known by where it was first read. Key, body and header values are
 * views on what came from the broker, until `detach`.
 */
export function incoming(record: FetchedRecord, at: ReadAt): ReadEnvelope {
  const { key, value, headers } = record
  const envelope = new ReadEnvelope(at.to, key, orderKeyOf(at.ordering, key, at.name), value)
  if (headers.length === 0) asForeign(envelope, record, at, null)
  else readHeaders(envelope, record, at, headers)
  return envelope
}

/** An envelope that can let go of the answer it was fetched with. */
export class ReadEnvelope implements Envelope {
  id: string | null = null
  type: string | null = null
  producer: string | null = null
  readonly to: Destination
  key: Uint8Array | null
  readonly orderKey: string | null
  body: Uint8Array | null
  headers: Headers = NO_HEADERS
  contentType: string | null = null
  timeMs: number | null = null
  readonly deliverAtMs: null = null
  native: Native | undefined

  constructor(
    to: Destination,
    key: Uint8Array | null,
    orderKey: string | null,
    body: Uint8Array | null,
  ) {
    this.to = to
    this.key = key
    this.orderKey = orderKey
    this.body = body
  }

  /** Copies its bytes: a view of a few of them keeps a whole answer in memory. */
  detach(): void {
    this.key &&= Buffer.from(this.key)
    this.body &&= Buffer.from(this.body)
    if (!this.headers.some(([, value]) => value instanceof Uint8Array)) return
    this.headers = this.headers.map(([name, value]) => [
      name,
      value instanceof Uint8Array ? Buffer.from(value) : value,
    ])
  }
}

function asForeign(
  envelope: ReadEnvelope,
  { offset, timestampMs }: FetchedRecord,
  at: ReadAt,
  origin: string | null,
): void {
  envelope.id = origin ?? `${at.topic}/${at.partition}/${offset}/${timestampMs}`
  envelope.timeMs ??= timestampMs
  envelope.native = new Native(at, offset, timestampMs, origin)
}

/** The first header of an attribute's name is the attribute; what comes after it is somebody's own. */
function readHeaders(
  envelope: ReadEnvelope,
  record: FetchedRecord,
  at: ReadAt,
  all: RecordHeaders,
): void {
  const own: [string, Buffer | null][] = []
  let isEvent = false
  let origin: string | null = null
  let mark: string | null = null
  for (let index = 0; index < all.length; index++) {
    const header = all[index] as (typeof all)[number]
    const [name, value] = header
    if (value === null) own.push([name, value])
    else if (name === ATTRIBUTES.id && envelope.id === null) envelope.id = textOf(value)
    else if (name === ATTRIBUTES.specversion && !isEvent) isEvent = true
    else if (name === ATTRIBUTES.type && envelope.type === null) envelope.type = types.of(value)
    else if (name === ATTRIBUTES.source && envelope.producer === null) {
      envelope.producer = sources.of(value)
    } else if (name === ATTRIBUTES.time && envelope.timeMs === null) {
      envelope.timeMs = timeIn(value)
      if (envelope.timeMs === null) own.push([name, value])
    } else if (name === ATTRIBUTES.contentType && envelope.contentType === null) {
      envelope.contentType = contentTypes.of(value)
    } else if (name === ORIGIN) origin = textOf(value)
    else if (name === BYTES) mark = textOf(value)
    else own.push([name, value])
  }
  if (own.length > 0) envelope.headers = asHeaders(own, mark)
  if (envelope.id === null) return asForeign(envelope, record, at, origin)
  envelope.native = new Native(at, record.offset, record.timestampMs, origin)
}

function asHeaders(own: readonly [string, Buffer | null][], mark: string | null): Headers {
  const marked = mark === null ? null : byteMarked(mark)
  const headers: [string, HeaderValue][] = []
  for (let place = 0; place < own.length; place++) {
    const [name, value] = own[place] as (typeof own)[number]
    const isText = value !== null && marked?.has(place) !== true && isUtf8(value)
    headers.push([name, isText ? textOf(value) : value])
  }
  return headers
}

/** Up to that length a text is looked at for being ASCII: reading it is cheaper then. */
const SHORT = 64

function textOf(bytes: Buffer): string {
  const { length } = bytes
  if (length > SHORT) return bytes.toString('utf8')
  for (let at = 0; at < length; at++) {
    if ((bytes[at] as number) > 0x7f) return bytes.toString('utf8')
  }
  return bytes.toString('latin1')
}

/** Reads a text that is mostly the same as the last one. */
class RepeatedText {
  #bytes: Buffer = Buffer.alloc(0)
  #text = ''

  of(bytes: Buffer): string {
    if (!this.#bytes.equals(bytes)) {
      this.#text = textOf(bytes)
      this.#bytes = Buffer.from(bytes)
    }
    return this.#text
  }
}

const types = new RepeatedText()
const sources = new RepeatedText()
const contentTypes = new RepeatedText()
