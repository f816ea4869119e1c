import type { Outgoing } from './outgoing.ts'
import type { Table } from './wire-headers.ts'

/** Types of frames, and what each ends with. */
const METHOD = 1
const HEADER = 2
const BODY = 3
const END = 0xce
/** Type, channel and size before what a frame carries. */
const FRAME_HEAD = 7

/** Class `basic` and its method `publish`. */
const BASIC = 60
const PUBLISH = 40

/** What a message has of properties, in their order: content type, headers, delivery mode, message id. */
const HAS_CONTENT_TYPE = 0x8000
const HAS_HEADERS_AND_MODE = 0x3000
const HAS_MESSAGE_ID = 0x0080

/** Frames are gathered in pieces of that size; a message that may take more than half of one is not made here. */
const PIECE_BYTES = 64 * 1024
const MOST_BYTES = PIECE_BYTES / 2
/** What a message takes beside its texts and its body, at most. */
const FIXED_BYTES = 128
const LONGEST_SHORT = 255
/** Up to here one character after the other is faster than a call out of JavaScript. */
const SHORT_TEXT = 64

/**
 * Makes the frames of many messages in one piece of memory, so that a burst is one write: amqplib makes
 * several buffers of each message, and a write of its own. Does so for what nearly all messages are made
 * of; the rest is left to amqplib.
 */
export class PublishFrames {
  readonly #channel: number
  /** Bytes of a body that fit one frame. */
  readonly #mostBody: number
  readonly #write: (frames: Buffer) => void
  #piece: Buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  #from = 0
  #at = 0

  /** `frameMax`: largest frame in bytes. What is handed to `write` is whole messages, and stays as it is. */
  constructor(channel: number, frameMax: number, write: (frames: Buffer) => void) {
    this.#channel = channel
    this.#mostBody = Math.min(frameMax - FRAME_HEAD - 1, MOST_BYTES)
    this.#write = write
  }

  /** Adds the message, to be written with `flush` at the latest. False, and nothing is added, for one that is not made here. */
  add(message: Outgoing): boolean {
    if (!message.isPlain || message.content.length > this.#mostBody) return false
    const most = mostBytes(message)
    if (most > MOST_BYTES) return false
    if (this.#at + most > PIECE_BYTES) this.#turn()
    const method = this.#method(message, this.#at)
    const header = method === null ? null : this.#header(message, method)
    if (header === null) return false
    this.#at = this.#body(message.content, header)
    return true
  }

  /** Hands over what was added. */
  flush(): void {
    if (this.#from === this.#at) return
    const frames = this.#piece.subarray(this.#from, this.#at)
    this.#from = this.#at
    this.#write(frames)
  }

  /** What was handed over may still wait for the socket: it is never written over. */
  #turn(): void {
    this.flush()
    this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
    this.#from = 0
    this.#at = 0
  }

  /** Where it ends; `null` when a name is too long. */
  #method({ exchange, routingKey, mandatory }: Outgoing, start: number): number | null {
    const piece = this.#piece
    let at = start + FRAME_HEAD
    at = putNumber16(piece, BASIC, at)
    at = putNumber16(piece, PUBLISH, at)
    at = putNumber16(piece, 0, at)
    const key = putShort(piece, exchange, at)
    const end = key === null ? null : putShort(piece, routingKey, key)
    if (end === null) return null
    piece[end] = Number(mandatory)
    return this.#frame(METHOD, start, end + 1)
  }

  #header({ options, content }: Outgoing, start: number): number | null {
    const { contentType, headers, deliveryMode, messageId } = options
    const piece = this.#piece
    let flags = HAS_HEADERS_AND_MODE
    if (contentType !== undefined) flags |= HAS_CONTENT_TYPE
    if (messageId !== undefined) flags |= HAS_MESSAGE_ID
    let at = start + FRAME_HEAD
    at = putNumber16(piece, BASIC, at)
    at = putNumber16(piece, 0, at)
    at = putNumber32(piece, 0, at)
    at = putNumber32(piece, content.length, at)
    at = putNumber16(piece, flags, at)
    const table = contentType === undefined ? at : putShort(piece, contentType, at)
    const mode = table === null ? null : putTable(piece, headers, table)
    if (mode === null) return null
    piece[mode] = deliveryMode
    const end = messageId === undefined ? mode + 1 : putShort(piece, messageId, mode + 1)
    return end === null ? null : this.#frame(HEADER, start, end)
  }

  #body(content: Buffer, start: number): number {
    if (content.length === 0) return start
    this.#piece.set(content, start + FRAME_HEAD)
    return this.#frame(BODY, start, start + FRAME_HEAD + content.length)
  }

  /** Puts a frame around what it carries. */
  #frame(type: number, start: number, end: number): number {
    const piece = this.#piece
    piece[start] = type
    putNumber16(piece, this.#channel, start + 1)
    putNumber32(piece, end - start - FRAME_HEAD, start + 3)
    piece[end] = END
    return end + 1
  }
}

/** No less than it takes; a character has three bytes at most. `Infinity` for headers that are not made here. */
function mostBytes({ exchange, routingKey, content, options }: Outgoing): number {
  const { contentType, messageId, headers } = options
  let characters = exchange.length + routingKey.length
  if (contentType !== undefined) characters += contentType.length
  if (messageId !== undefined) characters += messageId.length
  return FIXED_BYTES + content.length + 3 * characters + mostBytesOf(headers)
}

function mostBytesOf(table: Table): number {
  let bytes = 0
  for (const name in table) {
    const value = table[name]
    if (value === undefined) continue
    bytes += 6 + 3 * name.length
    if (typeof value === 'string') bytes += 3 * value.length
    else if (Buffer.isBuffer(value)) bytes += value.length
    else if (value !== null) return Number.POSITIVE_INFINITY
  }
  return bytes
}

/** Text, bytes and nothing, as amqplib spells them; `null` when a name is too long. */
function putTable(piece: Buffer, table: Table, start: number): number | null {
  let at = start + 4
  for (const name in table) {
    const value = table[name]
    if (value === undefined) continue
    const type = putShort(piece, name, at)
    if (type === null) return null
    at = putValue(piece, value as string | Buffer | null, type)
  }
  putNumber32(piece, at - start - 4, start)
  return at
}

function putValue(piece: Buffer, value: string | Buffer | null, at: number): number {
  if (value === null) {
    piece[at] = 0x56 // V
    return at + 1
  }
  let end = at + 5
  if (typeof value === 'string') {
    piece[at] = 0x53 // S
    end = putText(piece, value, end)
  } else {
    piece[at] = 0x78 // x
    piece.set(value, end)
    end += value.length
  }
  putNumber32(piece, end - at - 5, at + 1)
  return end
}

/** A text after its length in one byte; `null` when it is longer than that can say. */
function putShort(piece: Buffer, text: string, at: number): number | null {
  const end = putText(piece, text, at + 1)
  const bytes = end - at - 1
  piece[at] = bytes
  return bytes > LONGEST_SHORT ? null : end
}

function putText(piece: Buffer, text: string, start: number): number {
  if (text.length > SHORT_TEXT) return start + piece.write(text, start)
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code > 0x7f) return start + piece.write(text, start)
    piece[start + index] = code
  }
  return start + text.length
}

function putNumber16(piece: Buffer, value: number, at: number): number {
  piece[at] = value >>> 8
  piece[at + 1] = value & 0xff
  return at + 2
}

function putNumber32(piece: Buffer, value: number, at: number): number {
  piece[at] = value >>> 24
  piece[at + 1] = (value >>> 16) & 0xff
  piece[at + 2] = (value >>> 8) & 0xff
  piece[at + 3] = value & 0xff
  return at + 4
}
