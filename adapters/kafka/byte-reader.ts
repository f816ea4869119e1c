/** Reads numbers, texts and bytes as Kafka writes them, one after the other. Bytes are views. */
export class ByteReader {
  readonly buffer: Buffer
  at: number

  constructor(buffer: Buffer, at = 0) {
    this.buffer = buffer
    this.at = at
  }

  get left(): number {
    return this.buffer.length - this.at
  }

  int8(): number {
    return this.buffer.readInt8(this.#pass(1))
  }

  int16(): number {
    return this.buffer.readInt16BE(this.#pass(2))
  }

  int32(): number {
    return this.buffer.readInt32BE(this.#pass(4))
  }

  int64(): bigint {
    return this.buffer.readBigInt64BE(this.#pass(8))
  }

  /** A text with its length in 16 bits; `null` for none. */
  text(): string | null {
    const length = this.int16()
    if (length < 0) return null
    const from = this.#pass(length)
    return this.buffer.toString('utf8', from, from + length)
  }

  /** Bytes with their length in 32 bits; `null` for none. */
  bytes(): Buffer | null {
    const length = this.int32()
    return length < 0 ? null : this.view(length)
  }

  view(length: number): Buffer {
    const from = this.#pass(length)
    return this.buffer.subarray(from, from + length)
  }

  /** A list with its length in 32 bits; none and empty are the same. */
  list<T>(read: (reader: ByteReader) => T): T[] {
    const length = this.int32()
    const list: T[] = []
    for (let n = 0; n < length; n++) list.push(read(this))
    return list
  }

  #pass(length: number): number {
    const from = this.at
    if (length > this.buffer.length - from) throw new RangeError('the bytes end too early')
    this.at = from + length
    return from
  }
}
