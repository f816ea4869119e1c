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
import type { FetchedRecord, HeaderVisitor, TopicPartition } from './driver.ts'
import { Native } from './native.ts'
import { timeIn } from './time-bytes.ts'

const NO_BYTES = Buffer.alloc(0)

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
  const { key } = record
  const orderKey = orderKeyOf(at.ordering, key, at.name)
  const envelope = new ReadEnvelope(at.to, key, orderKey, record.value)
  reader.read(record, envelope)
  const { offset, timestampMs } = record
  if (envelope.id === null) {
    envelope.id = reader.origin ?? `${at.topic}/${at.partition}/${offset}/${timestampMs}`
    envelope.timeMs ??= timestampMs
  }
  envelope.native = new Native(at, offset, timestampMs, reader.origin)
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

/** Tells attributes from headers. The first header of an attribute's name is the attribute; what comes after it is somebody's own. */
class HeaderReader implements HeaderVisitor {
  /** Where the record was first read, if it says so. */
  origin: string | null = null
  #envelope: ReadEnvelope = NOBODY
  #isEvent = false
  #mark: string | null = null
  #own: [string, Buffer | null][] | null = null

  read(record: FetchedRecord, envelope: ReadEnvelope): void {
    this.#envelope = envelope
    this.origin = this.#mark = this.#own = null
    this.#isEvent = false
    if (record.eachHeader !== undefined) record.eachHeader(this)
    else {
      for (const [name, value] of record.headers) {
        this.header(name, value ?? NO_BYTES, 0, value?.length ?? -1)
      }
    }
    if (this.#own !== null) envelope.headers = asHeaders(this.#own, this.#mark)
    this.#envelope = NOBODY
  }

  header(name: string, bytes: Buffer, from: number, to: number): void {
    const isAttribute = to >= from && this.#isAttribute(name, bytes, from, to)
    if (isAttribute) return
    this.#own ??= []
    this.#own.push([name, to < from ? null : bytes.subarray(from, to)])
  }

  #isAttribute(name: string, bytes: Buffer, from: number, to: number): boolean {
    const envelope = this.#envelope
    switch (name) {
      case ATTRIBUTES.id:
        if (envelope.id !== null) return false
        envelope.id = textIn(bytes, from, to)
        return true
      case ATTRIBUTES.specversion:
        if (this.#isEvent) return false
        this.#isEvent = true
        return true
      case ATTRIBUTES.type:
        if (envelope.type !== null) return false
        envelope.type = types.read(bytes, from, to)
        return true
      case ATTRIBUTES.source:
        if (envelope.producer !== null) return false
        envelope.producer = sources.read(bytes, from, to)
        return true
      case ATTRIBUTES.time:
        if (envelope.timeMs !== null) return false
        envelope.timeMs = timeIn(bytes, from, to)
        return envelope.timeMs !== null
      case ATTRIBUTES.contentType:
        if (envelope.contentType !== null) return false
        envelope.contentType = contentTypes.read(bytes, from, to)
        return true
      case ORIGIN:
        this.origin = textIn(bytes, from, to)
        return true
      case BYTES:
        this.#mark = textIn(bytes, from, to)
        return true
      default:
        return false
    }
  }
}

function asHeaders(own: readonly [string, Buffer | null][], mark: string | null): Headers {
  const marked = mark === null ? null : byteMarked(mark)
  const headers: [string, HeaderValue][] = []
  for (let place = 0; place < own.length; place++) {
    const [name, value] = own[place] as (typeof own)[number]
    const isText = value !== null && marked?.has(place) !== true && isUtf8(value)
    headers.push([name, isText ? value.toString('utf8') : value])
  }
  return headers
}

/** Up to that length a text is looked at for being ASCII: reading it is cheaper then. */
const SHORT = 64

function textIn(bytes: Buffer, from: number, to: number): string {
  if (to - from > SHORT) return bytes.toString('utf8', from, to)
  for (let at = from; at < to; at++) {
    if ((bytes[at] as number) > 0x7f) return bytes.toString('utf8', from, to)
  }
  return bytes.toString('latin1', from, to)
}

/** Reads a text that is mostly the same as the last one. */
class RepeatedText {
  #bytes: Buffer = NO_BYTES
  #text = ''

  read(bytes: Buffer, from: number, to: number): string {
    if (!this.#isSame(bytes, from, to)) {
      this.#text = textIn(bytes, from, to)
      this.#bytes = Buffer.from(bytes.subarray(from, to))
    }
    return this.#text
  }

  #isSame(bytes: Buffer, from: number, to: number): boolean {
    const last = this.#bytes
    if (last.length !== to - from) return false
    for (let at = 0; at < last.length; at++) if (last[at] !== bytes[from + at]) return false
    return true
  }
}

const NOBODY = new ReadEnvelope({ kind: 'topic', topic: '' }, null, null, null)
/** One for all records: each is read at once. */
const reader = new HeaderReader()
const types = new RepeatedText()
const sources = new RepeatedText()
const contentTypes = new RepeatedText()
