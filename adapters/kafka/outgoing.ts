import {
  NO_HEADERS,
  type Envelope,
  type Headers,
  type HeaderValue,
} from '../../src/contract/message.ts'
import { timeText } from '../../src/contract/time-text.ts'
import { BATCH_OVERHEAD, recordBound, recordSize } from './batch-writer.ts'
import { byteMark, BYTES } from './byte-headers.ts'
import type { Call } from './call.ts'
import { ATTRIBUTES, ORIGIN } from './cloud-events.ts'
import type { KafkaRecord } from './driver.ts'
import { Native, originText } from './native.ts'

/** A header's name and value. */
type Header = readonly [name: string, value: HeaderValue]

const SPECVERSION: Header = [ATTRIBUTES.specversion, '1.0']
/** Values that many messages share are kept, up to so many of each attribute. */
const MOST_SHARED = 1_000

/** An envelope of a call on its way to a partition, as the record it becomes. */
export class Outgoing implements KafkaRecord {
  readonly call: Call
  readonly index: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestampMs: null = null
  headers: Headers = NO_HEADERS
  /** Bytes it takes of a batch, or a few more; 0 before `prepare`. */
  bytes = 0

  constructor(call: Call, index: number) {
    const { key, body } = call.batch[index] as Envelope
    this.call = call
    this.index = index
    this.key = key === null ? null : asBuffer(key)
    this.value = body === null ? null : asBuffer(body)
  }

  get envelope(): Envelope {
    return this.call.batch[this.index] as Envelope
  }

  /** Writes its headers and measures it, once. */
  prepare(): void {
    if (this.bytes > 0) return
    this.headers = headersOf(this.envelope)
    this.bytes = recordBound(this)
  }

  /** Whether it fits a batch of that size alone. */
  fits(maxBatchBytes: number): boolean {
    const room = maxBatchBytes - BATCH_OVERHEAD
    return this.bytes <= room || recordSize(this) <= room
  }
}

/** Attributes first, then the envelope's own headers, then where it came from. */
export function headersOf(envelope: Envelope): Headers {
  const { id, type, producer, contentType, timeMs, headers, native, to } = envelope
  const isUsual = headers.length === 0 && to.kind === 'topic'
  if (isUsual && id && type && producer && timeMs !== null && contentType) {
    // A list as long as it has to be: nearly all messages are like this.
    return [
      SPECVERSION,
      [ATTRIBUTES.id, id],
      types.of(type),
      sources.of(producer),
      timeHeader(timeMs),
      contentTypes.of(contentType),
    ]
  }
  const all: Header[] = []
  if (id !== null && type !== null && producer !== null) all.push(SPECVERSION)
  if (id !== null) all.push([ATTRIBUTES.id, id])
  if (type !== null) all.push(types.of(type))
  if (producer !== null) all.push(sources.of(producer))
  if (timeMs !== null) all.push(timeHeader(timeMs))
  if (contentType !== null) all.push(contentTypes.of(contentType))
  for (const header of headers) all.push(header)
  const isCopy = to.kind !== 'topic' && native instanceof Native
  if (isCopy) all.push([ORIGIN, originText(native.origin)])
  const mark = headers.length === 0 ? null : byteMark(headers)
  if (mark !== null) all.push([BYTES, mark])
  return all
}

/** Headers of one name, one object for each value. */
class SharedHeaders {
  readonly #name: string
  readonly #byValue = new Map<string, Header>()

  constructor(name: string) {
    this.#name = name
  }

  of(value: string): Header {
    let header = this.#byValue.get(value)
    if (header === undefined) {
      if (this.#byValue.size >= MOST_SHARED) this.#byValue.clear()
      header = [this.#name, value]
      this.#byValue.set(value, header)
    }
    return header
  }
}

const types = new SharedHeaders(ATTRIBUTES.type)
const sources = new SharedHeaders(ATTRIBUTES.source)
const contentTypes = new SharedHeaders(ATTRIBUTES.contentType)

let lastMs = Number.NaN
let lastTime: Header = [ATTRIBUTES.time, '']

function timeHeader(timeMs: number): Header {
  if (timeMs !== lastMs) {
    lastTime = [ATTRIBUTES.time, timeText(timeMs)]
    lastMs = timeMs
  }
  return lastTime
}

function asBuffer(bytes: Uint8Array): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
