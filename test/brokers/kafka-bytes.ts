/** Takes values off the front of a message of the Kafka protocol; throws where it ends too early. */
export class ByteReader {
  readonly bytes: Buffer
  at: number

  constructor(bytes: Buffer, at: number = 0) {
    this.bytes = bytes
    this.at = at
  }

  int8(): number {
    return this.bytes.readInt8(this.#step(1))
  }

  int16(): number {
    return this.bytes.readInt16BE(this.#step(2))
  }

  int32(): number {
    return this.bytes.readInt32BE(this.#step(4))
  }

  int64(): bigint {
    return this.bytes.readBigInt64BE(this.#step(8))
  }

  /** Seven bits per byte, the lowest first. */
  varint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes.readUInt8(this.#step(1))
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
  }

  skip(count: number): void {
    this.#step(count)
  }

  /** Null where the length says so. */
  string(isCompact: boolean = false): string | null {
    const length = isCompact ? this.varint() - 1 : this.int16()
    return length < 0 ? null : this.slice(length).toString()
  }

  /** Length of an array; 0 for none. */
  count(isCompact: boolean = false): number {
    return Math.max(0, isCompact ? this.varint() - 1 : this.int32())
  }

  /** An array, item by item. */
  list<T>(item: () => T, isCompact: boolean = false): readonly T[] {
    const items: T[] = []
    for (let left = this.count(isCompact); left > 0; left--) items.push(item())
    return items
  }

  blob(isCompact: boolean = false): Buffer | null {
    const length = isCompact ? this.varint() - 1 : this.int32()
    return length < 0 ? null : this.slice(length)
  }

  /** Tagged fields, of flexible versions only. */
  tags(isCompact: boolean = true): void {
    if (!isCompact) return
    for (let left = this.varint(); left > 0; left--) {
      this.varint()
      this.skip(this.varint())
    }
  }

  slice(length: number): Buffer {
    const from = this.#step(length)
    return this.bytes.subarray(from, from + length)
  }

  #step(count: number): number {
    const from = this.at
    if (count < 0 || from + count > this.bytes.length) {
      throw new RangeError(`${count} bytes wanted at ${from} of ${this.bytes.length}`)
    }
    this.at += count
    return from
  }
}

/** Puts a message of the Kafka protocol together. */
export class ByteWriter {
  readonly #parts: Buffer[] = []

  get bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }

  int8(value: number): this {
    const bytes = Buffer.alloc(1)
    bytes.writeInt8(value)
    return this.raw(bytes)
  }

  int16(value: number): this {
    const bytes = Buffer.alloc(2)
    bytes.writeInt16BE(value)
    return this.raw(bytes)
  }

  int32(value: number): this {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(value)
    return this.raw(bytes)
  }

  int64(value: bigint): this {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64BE(value)
    return this.raw(bytes)
  }

  varint(value: number): this {
    const bytes: number[] = []
    let left = value
    for (; left > 0x7f; left = Math.floor(left / 128)) bytes.push((left % 128) | 0x80)
    return this.raw(Buffer.from([...bytes, left]))
  }

  string(value: string, isCompact: boolean = false): this {
    const bytes = Buffer.from(value)
    if (isCompact) this.varint(bytes.length + 1)
    else this.int16(bytes.length)
    return this.raw(bytes)
  }

  /** How many items follow. */
  count(items: number, isCompact: boolean = false): this {
    return isCompact ? this.varint(items + 1) : this.int32(items)
  }

  /** No tagged fields, which only flexible versions say. */
  tags(isCompact: boolean = true): this {
    return isCompact ? this.varint(0) : this
  }

  raw(bytes: Buffer): this {
    this.#parts.push(bytes)
    return this
  }
}
