const LEAST_BYTES = 64 * 1024
/** Texts up to this length are tried as ASCII, one character at a time: cheaper than asking the runtime. */
const SHORT_TEXT = 63

/** Writes numbers, texts and bytes as Kafka's protocol has them into a buffer that grows. */
export class ByteWriter {
  #bytes: Buffer = Buffer.allocUnsafe(LEAST_BYTES)
  #at = 0

  /** Where the next byte goes. */
  get at(): number {
    return this.#at
  }

  /** A view on what was written; void after `clear` and the next growth. */
  get written(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  /** What was written goes; the room stays. */
  clear(): void {
    this.#at = 0
  }

  /** Makes sure of room for that many more bytes. All others write without looking. */
  ensure(more: number): void {
    const wanted = this.#at + more
    if (wanted <= this.#bytes.length) return
    const bytes = Buffer.allocUnsafe(Math.max(wanted, this.#bytes.length * 2))
    this.#bytes.copy(bytes, 0, 0, this.#at)
    this.#bytes = bytes
  }

  int8(value: number): void {
    this.#bytes[this.#at++] = value
  }

  int16(value: number): void {
    this.#at = this.#bytes.writeInt16BE(value, this.#at)
  }

  int32(value: number): void {
    this.#at = this.#bytes.writeInt32BE(value, this.#at)
  }

  int64(value: bigint): void {
    this.#at = this.#bytes.writeBigInt64BE(value, this.#at)
  }

  /** Leaves room for an int32 that is known later; returns where. */
  reserve32(): number {
    this.#at += 4
    return this.#at - 4
  }

  setInt32(at: number, value: number): void {
    this.#bytes.writeInt32BE(value, at)
  }

  setUint32(at: number, value: number): void {
    this.#bytes.writeUInt32BE(value, at)
  }

  /** A text with its length as an int16. */
  text16(text: string): void {
    const length = Buffer.byteLength(text)
    this.ensure(2 + length)
    this.int16(length)
    this.#at += this.#bytes.write(text, this.#at)
  }

  /** A number of at most 32 bits as a zigzag varint: 1 to 5 bytes. */
  varint(value: number): void {
    let left = ((value << 1) ^ (value >> 31)) >>> 0
    while (left > 0x7f) {
      this.#bytes[this.#at++] = (left & 0x7f) | 0x80
      left >>>= 7
    }
    this.#bytes[this.#at++] = left
  }

  /** The same for any whole number that a double has exactly: 1 to 8 bytes. */
  varlong(value: number): void {
    if (value >= -0x40000000 && value < 0x40000000) return this.varint(value)
    let left = value < 0 ? -2 * value - 1 : 2 * value
    while (left > 0x7f) {
      this.#bytes[this.#at++] = (left % 0x80) | 0x80
      left = Math.floor(left / 0x80)
    }
    this.#bytes[this.#at++] = left
  }

  /** A text with its length as a varint. */
  varText(text: string): void {
    if (text.length > SHORT_TEXT || !this.#shortAscii(text)) {
      this.varint(Buffer.byteLength(text))
      this.#at += this.#bytes.write(text, this.#at)
    }
  }

  /** Bytes with their length as a varint; `null` has length -1. */
  varBytes(bytes: Uint8Array | null): void {
    if (bytes === null) return this.varint(-1)
    this.varint(bytes.length)
    this.raw(bytes)
  }

  raw(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /**
   * Puts the length of everything since `from` before it, as a varint; `reserved` bytes were skipped
   * for it there.
   */
  prefix(from: number, reserved: number): void {
    const bodyAt = from + reserved
    const length = this.#at - bodyAt
    const needed = varintSize(length)
    const end = this.#at
    if (needed !== reserved) this.#bytes.copyWithin(from + needed, bodyAt, end)
    this.#at = from
    this.varint(length)
    this.#at = end + needed - reserved
  }

  skip(bytes: number): void {
    this.#at += bytes
  }

  /** Writes a text of at most 63 ASCII characters, or returns false with nothing written. */
  #shortAscii(text: string): boolean {
    const bytes = this.#bytes
    const { length } = text
    let at = this.#at
    bytes[at++] = length << 1
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index)
      if (code > 0x7f) return false
      bytes[at++] = code
    }
    this.#at = at
    return true
  }
}

/** Bytes of a zigzag varint. */
export function varintSize(value: number): number {
  const left = ((value << 1) ^ (value >> 31)) >>> 0
  if (left < 0x80) return 1
  if (left < 0x4000) return 2
  if (left < 0x200000) return 3
  return left < 0x10000000 ? 4 : 5
}
