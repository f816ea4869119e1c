import { HoldfastError } from '../../src/contract/errors.ts'
import { ByteReader } from './byte-reader.ts'
import type { FetchedRecord, HeaderVisitor, RecordHeaders } from './driver.ts'

/** A transaction that was aborted: its producer, and where it began in this partition. */
export interface AbortedTransaction {
  readonly producerId: bigint
  readonly firstOffset: bigint
}

/** Makes the bytes of compressed records readable; `codec` is Kafka's number of it, 1 to 4. */
export type Decompress = (codec: number, bytes: Buffer) => Promise<Buffer>

/** What one answer has of a partition. */
export interface FetchedRecords {
  readonly records: readonly FetchedRecord[]
  /** Where reading goes on: behind the last whole batch, whatever of it could be read. `null`: there was none. */
  readonly next: bigint | null
}

/** Length of a batch's fields before its records. */
const HEAD = 61
/** Offset and length: what the length does not count. */
const UNCOUNTED = 12
const MAGIC_AT = 16

const COMPRESSION = 0x07
const LOG_APPEND_TIME = 0x08
const TRANSACTIONAL = 0x10
const CONTROL = 0x20
/** Type of the control record that ends an aborted transaction. */
const ABORT = 0

/** The fields of a batch that say how its records are read. */
interface BatchHead {
  readonly baseOffset: bigint
  readonly attributes: number
  readonly lastOffset: bigint
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  readonly producerId: bigint
  readonly count: number
}

/**
 * Reads the batches of an answer from `from` on: without control records and without what belongs to
 * aborted transactions. A batch that is cut off at the end is left for the next fetch. Rejects with code
 * `codec` for what it cannot read.
 */
export async function readBatches(
  bytes: Buffer,
  from: bigint,
  aborted: readonly AbortedTransaction[],
  decompress: Decompress,
): Promise<FetchedRecords> {
  const records: FetchedRecord[] = []
  const transactions = new Aborts(aborted)
  let next: bigint | null = null
  for (let at = 0; at + HEAD <= bytes.length;) {
    const end = at + UNCOUNTED + bytes.readInt32BE(at + 8)
    if (end > bytes.length) break
    const head = headOf(new ByteReader(bytes, at))
    const body = bytes.subarray(at + HEAD, end)
    next = head.lastOffset + 1n
    at = end
    if (transactions.hides(head, body)) continue
    const codec = head.attributes & COMPRESSION
    const readable = codec === 0 ? body : await decompress(codec, body)
    if (next > from) readRecords(readable, head, from, records)
  }
  return { records, next }
}

/** What is hidden of a partition, from its first batch to its last. */
class Aborts {
  readonly #ahead: AbortedTransaction[]
  readonly #open = new Set<bigint>()

  constructor(aborted: readonly AbortedTransaction[]) {
    this.#ahead = [...aborted].sort((one, other) => Number(one.firstOffset - other.firstOffset))
  }

  hides({ attributes, lastOffset, producerId }: BatchHead, body: Buffer): boolean {
    while (this.#ahead[0] !== undefined && this.#ahead[0].firstOffset <= lastOffset) {
      this.#open.add((this.#ahead.shift() as AbortedTransaction).producerId)
    }
    const isControl = (attributes & CONTROL) !== 0
    if (isControl && controlTypeOf(body) === ABORT) this.#open.delete(producerId)
    return isControl || ((attributes & TRANSACTIONAL) !== 0 && this.#open.has(producerId))
  }
}

function headOf(reader: ByteReader): BatchHead {
  const magic = reader.buffer.readInt8(reader.at + MAGIC_AT)
  const baseOffset = reader.int64()
  if (magic !== 2) {
    const text = `records in the format of Kafka before 0.11 (version ${magic}) at offset ${baseOffset} cannot be read: let the broker write them anew, or consume them with another client`
    throw new HoldfastError('codec', text)
  }
  // Length, leader epoch, magic and checksum.
  reader.view(13)
  const attributes = reader.int16()
  const lastOffset = baseOffset + BigInt(reader.int32())
  const baseTimestamp = Number(reader.int64())
  const maxTimestamp = Number(reader.int64())
  const producerId = reader.int64()
  // The producer's epoch and sequence number.
  reader.view(6)
  const count = reader.int32()
  return { baseOffset, attributes, lastOffset, baseTimestamp, maxTimestamp, producerId, count }
}

function controlTypeOf(body: Buffer): number {
  const reader = new RecordReader(body)
  const end = reader.begin()
  const { key } = new BatchRecord(body, reader.at, end, 0n, 0)
  return key === null || key.length < 4 ? -1 : key.readInt16BE(2)
}

function readRecords(
  bytes: Buffer,
  { baseOffset, attributes, baseTimestamp, maxTimestamp, count }: BatchHead,
  from: bigint,
  records: FetchedRecord[],
): void {
  const isAppendTime = (attributes & LOG_APPEND_TIME) !== 0
  const skipped = from > baseOffset ? Number(from - baseOffset) : 0
  const reader = new RecordReader(bytes)
  for (let n = 0; n < count; n++) {
    const end = reader.begin()
    if (reader.offsetDelta >= skipped) {
      const timestampMs = isAppendTime ? maxTimestamp : baseTimestamp + reader.timestampDelta
      const offset = baseOffset + BigInt(reader.offsetDelta)
      records.push(new BatchRecord(bytes, reader.at, end, offset, timestampMs))
    }
    reader.at = end
  }
}

/** A record in the bytes of its batch: what of it nobody asks for is not made. */
class BatchRecord implements FetchedRecord {
  readonly offset: bigint
  readonly timestampMs: number
  readonly #bytes: Buffer
  readonly #from: number
  readonly #end: number
  readonly #keyFrom: number
  readonly #keyBytes: number
  readonly #valueFrom: number
  readonly #valueBytes: number

  /** `from`: where its key begins, with the length of it. */
  constructor(bytes: Buffer, from: number, end: number, offset: bigint, timestampMs: number) {
    this.offset = offset
    this.timestampMs = timestampMs
    this.#bytes = bytes
    this.#from = from
    this.#end = end
    const reader = fields.moved(bytes, from)
    this.#keyBytes = reader.pass()
    this.#keyFrom = reader.at - Math.max(0, this.#keyBytes)
    this.#valueBytes = reader.pass()
    this.#valueFrom = reader.at - Math.max(0, this.#valueBytes)
    if (reader.at > end) throw damaged()
  }

  get key(): Buffer | null {
    return this.#keyBytes < 0 ? null : this.#view(this.#keyFrom, this.#keyBytes)
  }

  get value(): Buffer | null {
    return this.#valueBytes < 0 ? null : this.#view(this.#valueFrom, this.#valueBytes)
  }

  get bytes(): number {
    return this.#end - this.#from
  }

  get headers(): RecordHeaders {
    const list = new HeaderList()
    this.eachHeader(list)
    return list.headers
  }

  eachHeader(visitor: HeaderVisitor): void {
    const reader = fields.moved(this.#bytes, this.#valueFrom + Math.max(0, this.#valueBytes))
    for (let left = reader.whole(); left > 0; left--) {
      const nameBytes = reader.pass()
      const name = names.read(this.#bytes, reader.at - nameBytes, reader.at)
      const bytes = reader.pass()
      if (reader.at > this.#end) throw damaged()
      visitor.header(name, this.#bytes, reader.at - Math.max(0, bytes), bytes < 0 ? -1 : reader.at)
    }
  }

  detached(): FetchedRecord {
    const own = Buffer.from(this.#bytes.subarray(this.#from, this.#end))
    return new BatchRecord(own, 0, own.length, this.offset, this.timestampMs)
  }

  #view(from: number, bytes: number): Buffer {
    return this.#bytes.subarray(from, from + bytes)
  }
}

class HeaderList implements HeaderVisitor {
  readonly headers: [string, Buffer | null][] = []

  header(name: string, bytes: Buffer, from: number, to: number): void {
    this.headers.push([name, to < from ? null : bytes.subarray(from, to)])
  }
}

/** Reads the fields of records, one after the other. */
class RecordReader {
  at = 0
  timestampDelta = 0
  offsetDelta = 0
  #bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Begins anew, somewhere else. */
  moved(bytes: Buffer, at: number): this {
    this.#bytes = bytes
    this.at = at
    return this
  }

  /** Reads what stands before the key and returns where the record ends. */
  begin(): number {
    const length = this.whole()
    const end = this.at + length
    if (length < 0 || end > this.#bytes.length) throw damaged()
    this.at++
    this.timestampDelta = this.whole()
    this.offsetDelta = this.whole()
    return end
  }

  /** Passes bytes with their length before them, and returns that; -1: there are none. */
  pass(): number {
    const length = this.whole()
    if (length > 0) this.at += length
    return length
  }

  /** A whole number in zigzag, seven bits a byte; those beyond 32 bits are no whole bits any more, so it is multiplied. */
  whole(): number {
    const bytes = this.#bytes
    let byte = bytes[this.at++] as number
    if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1)
    let low = byte & 0x7f
    let shift = 7
    for (; shift < 28; shift += 7) {
      byte = bytes[this.at++] as number
      low |= (byte & 0x7f) << shift
      if (byte < 0x80) return (low >>> 1) ^ -(low & 1)
    }
    let value = low
    for (; shift < 70; shift += 7) {
      byte = bytes[this.at++] ?? 0
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) break
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }
}

/** One for all: whoever uses it is through with it before anybody else does. */
const fields = new RecordReader(Buffer.alloc(0))

/** Most names that are remembered, and the longest of them. */
const MOST_NAMES = 512
const LONGEST_NAME = 48

/** Header names are few and come again and again: each is made a text once. */
class Names {
  readonly #byHash = new Map<number, { readonly bytes: Buffer; readonly text: string }>()

  read(bytes: Buffer, from: number, to: number): string {
    if (to - from > LONGEST_NAME) return bytes.toString('utf8', from, to)
    let hash = to - from
    for (let at = from; at < to; at++) hash = (Math.imul(hash, 31) + (bytes[at] as number)) | 0
    const known = this.#byHash.get(hash)
    if (known !== undefined && isSame(known.bytes, bytes, from, to)) return known.text
    const text = bytes.toString('utf8', from, to)
    if (this.#byHash.size >= MOST_NAMES) this.#byHash.clear()
    this.#byHash.set(hash, { bytes: Buffer.from(bytes.subarray(from, to)), text })
    return text
  }
}

const names = new Names()

function isSame(known: Buffer, bytes: Buffer, from: number, to: number): boolean {
  if (known.length !== to - from) return false
  for (let at = 0; at < known.length; at++) {
    if (known[at] !== bytes[from + at]) return false
  }
  return true
}

function damaged(): HoldfastError {
  return new HoldfastError('codec', 'a batch of records ends in the middle of a record')
}
