import {
  NO_HEADERS,
  type Destination,
  type Envelope,
  type Headers,
  type HeaderValue,
} from '../../src/contract/message.ts'

/** Version of the columns below; readers leave rows of a later version to a later reader. */
export const ROW_VERSION = 1

/** The columns of an envelope, as `envelopeColumns` names them, in that order after `v`. */
export interface EnvelopeRow {
  readonly message_id: string | null
  readonly time_ms: number | null
  readonly message_key: Uint8Array | null
  readonly meta: string | null
  readonly body: Uint8Array | null
}

/** What a row says about an envelope beside the columns: short names, since it is stored with every row. */
interface Meta {
  /** type, producer, content type */
  readonly t?: string
  readonly p?: string
  readonly c?: string
  /** headers; bytes as [base64] */
  readonly h?: readonly (readonly [string, string | readonly [string] | null])[]
  /** order key: 1 = the key as text */
  readonly o?: string | 1
  /** destination, where it is not the topic of the row */
  readonly d?: Destination
}

/** What of a meta is the same for nearly every message of a topic. */
interface Parsed {
  readonly meta: Meta
  readonly headers: Headers
}

const NONE: Parsed = { meta: {}, headers: NO_HEADERS }
const utf8 = new TextDecoder()

/**
 * Writes and reads envelopes as rows. Messages without headers share their meta with the one before,
 * so it is remembered instead of written and parsed again.
 */
export class EnvelopeRows {
  #written: { type: string | null; producer: string | null; contentType: string | null } | null =
    null
  #writtenText: string | null = null
  #readText: string | null = null
  #read: Parsed = NONE

  /** The meta of an envelope whose row says by itself where it goes and how it is ordered. */
  meta(envelope: Envelope): string | null {
    const { type, producer, contentType, headers } = envelope
    if (headers.length > 0)
      return JSON.stringify({ ...basics(envelope), h: writtenHeaders(headers) })
    const last = this.#written
    if (last?.type === type && last.producer === producer && last.contentType === contentType) {
      return this.#writtenText
    }
    const meta = basics(envelope)
    this.#written = { type, producer, contentType }
    this.#writtenText = Object.keys(meta).length === 0 ? null : JSON.stringify(meta)
    return this.#writtenText
  }

  /** The meta of an envelope that has to come back whole. */
  wholeMeta(envelope: Envelope): string | null {
    const { orderKey, to, headers } = envelope
    if (orderKey === null && to.kind === 'topic') return this.meta(envelope)
    return JSON.stringify({
      ...basics(envelope),
      ...(headers.length > 0 && { h: writtenHeaders(headers) }),
      ...(orderKey !== null && { o: orderKey === keyText(envelope.key) ? 1 : orderKey }),
      ...(to.kind !== 'topic' && { d: to }),
    })
  }

  /** The envelope of a row; `orderKey` and `to` as given unless the row says otherwise. */
  envelope(row: EnvelopeRow, to: Destination, orderKey: string | null): Envelope {
    const { meta, headers } = this.#parsed(row.meta)
    const key = row.message_key === null ? null : plainBytes(row.message_key)
    return {
      id: row.message_id,
      type: meta.t ?? null,
      producer: meta.p ?? null,
      to: meta.d ?? to,
      key,
      orderKey: meta.o === undefined ? orderKey : meta.o === 1 ? keyText(key) : meta.o,
      body: row.body === null ? null : plainBytes(row.body),
      headers,
      contentType: meta.c ?? null,
      timeMs: row.time_ms,
      deliverAtMs: null,
    }
  }

  #parsed(text: string | null): Parsed {
    if (text === null) return NONE
    if (text === this.#readText) return this.#read
    const meta = JSON.parse(text) as Meta
    const parsed = { meta, headers: meta.h === undefined ? NO_HEADERS : meta.h.map(readHeader) }
    // Headers with bytes are handed out and must not be shared.
    if (meta.h === undefined) {
      this.#readText = text
      this.#read = parsed
    }
    return parsed
  }
}

function basics({ type, producer, contentType }: Envelope): Meta {
  return {
    ...(type !== null && { t: type }),
    ...(producer !== null && { p: producer }),
    ...(contentType !== null && { c: contentType }),
  }
}

function writtenHeaders(headers: Headers): Meta['h'] {
  return headers.map(([name, value]) =>
    value instanceof Uint8Array
      ? [name, [Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64')]]
      : [name, value],
  )
}

function readHeader([name, value]: NonNullable<Meta['h']>[number]): readonly [string, HeaderValue] {
  if (value === null || typeof value === 'string') return [name, value]
  return [name, plainBytes(Buffer.from(value[0], 'base64'))]
}

function keyText(key: Uint8Array | null): string | null {
  return key === null ? null : utf8.decode(key)
}

/** Why a database cannot keep the id; `null` when it can. */
export function badId(id: string | null): string | null {
  if (id === null || !id.includes('\u0000')) return null
  return 'the message id contains U+0000, which some databases cut off and others refuse: use another id'
}

const EMPTY = new Uint8Array(new ArrayBuffer(8), 0, 0)

/** The bytes as every driver stores them: node:sqlite before 22.16 takes some empty arrays for NULL. */
export function storedBytes(bytes: Uint8Array | null): Uint8Array | null {
  return bytes !== null && bytes.length === 0 ? EMPTY : bytes
}

/** The same bytes without the class a driver or Node puts around them. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.constructor === Uint8Array) return bytes
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
