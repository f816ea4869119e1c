import type { HeaderValue } from '../../src/contract/message.ts'
import { type ByteWriter, varintSize } from './byte-writer.ts'
import { crc32c } from './crc32c.ts'
import type { KafkaRecord } from './driver.ts'

/** Bytes of a batch before its first record. */
export const BATCH_OVERHEAD = 61
/** A record's own numbers at their longest: length, attributes, time, offset, and how many headers. */
const RECORD_OVERHEAD = 5 + 1 + 10 + 5 + 5
/** Longest length of a field. */
const LENGTH = 5

/** From the base offset to the end of the length field; not counted by that length. */
const BEFORE_LENGTH_ENDS = 12
/** Where the sum stands, and where what it is of begins. */
const CRC_AT = 17
const SUMMED_FROM = 21

const MAGIC = 2
/** The bit of the attributes that says so. */
const TRANSACTIONAL = 0x10
/** Bytes of a record's length: nearly all have 64 bytes to 8 kB. */
const USUAL_PREFIX = 2

/** What a batch is written under. */
export interface BatchIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
  /** Number of its first record among those of the producer for that partition. */
  readonly sequence: number
  /** For records without a time of their own, in Unix milliseconds. */
  readonly nowMs: number
  /** It belongs to a transaction of its producer. */
  readonly isTransactional?: boolean
}

/** Number of a codec in a batch's attributes, and what it does with the records. */
export interface BatchCodec {
  readonly type: number
  readonly compress: (records: Buffer) => Promise<Buffer>
}

/** Bytes the record takes as the only one of a batch; its texts are looked at. */
export function recordSize({ key, value, headers }: KafkaRecord): number {
  let bytes = 3 + fieldSize(key) + fieldSize(value) + varintSize(headers.length)
  for (const [name, content] of headers) bytes += fieldSize(name) + fieldSize(content)
  return varintSize(bytes) + bytes
}

/** At most that many bytes become of the record wherever it stands: quickly, without looking at short texts. */
export function recordBound({ key, value, headers }: KafkaRecord): number {
  let bytes = RECORD_OVERHEAD + 2 * LENGTH + (key?.length ?? 0) + (value?.length ?? 0)
  for (let index = 0; index < headers.length; index++) {
    const [name, content] = headers[index] as (typeof headers)[number]
    bytes += 2 * LENGTH + textBound(name)
    if (typeof content === 'string') bytes += textBound(content)
    else if (content !== null) bytes += content.length
  }
  return bytes
}

function fieldSize(content: HeaderValue): number {
  if (content === null) return 1
  const length = typeof content === 'string' ? Buffer.byteLength(content) : content.length
  return varintSize(length) + length
}

/** A short text may have three bytes per character; of a long one it is worth asking. */
function textBound(text: string): number {
  return text.length > 256 ? Buffer.byteLength(text) : text.length * 3
}

/** Writes the records as one batch (magic 2), not compressed. */
export function writeBatch(
  writer: ByteWriter,
  records: readonly KafkaRecord[],
  identity: BatchIdentity,
): void {
  const times = timesOf(records, identity.nowMs)
  const from = beginBatch(writer, records.length, identity, times, 0)
  writeRecords(writer, records, times.earliest, identity.nowMs)
  endBatch(writer, from)
}

/** The same with compressed records; `scratch` is used meanwhile. */
export async function writeCompressedBatch(
  writer: ByteWriter,
  scratch: ByteWriter,
  records: readonly KafkaRecord[],
  identity: BatchIdentity,
  codec: BatchCodec,
): Promise<void> {
  const times = timesOf(records, identity.nowMs)
  scratch.clear()
  writeRecords(scratch, records, times.earliest, identity.nowMs)
  const compressed = await codec.compress(scratch.written)
  const from = beginBatch(writer, records.length, identity, times, codec.type)
  writer.ensure(compressed.length)
  writer.raw(compressed)
  endBatch(writer, from)
}

function beginBatch(
  writer: ByteWriter,
  count: number,
  { producerId, producerEpoch, sequence, isTransactional }: BatchIdentity,
  { earliest, latest }: Times,
  codec: number,
): number {
  writer.ensure(BATCH_OVERHEAD)
  const from = writer.at
  writer.int64(0n)
  writer.reserve32()
  writer.int32(-1)
  writer.int8(MAGIC)
  writer.reserve32()
  writer.int16(isTransactional === true ? codec | TRANSACTIONAL : codec)
  writer.int32(count - 1)
  writer.int64(BigInt(earliest))
  writer.int64(BigInt(latest))
  writer.int64(producerId)
  writer.int16(producerEpoch)
  writer.int32(sequence)
  writer.int32(count)
  return from
}

function endBatch(writer: ByteWriter, from: number): void {
  writer.setInt32(from + 8, writer.at - from - BEFORE_LENGTH_ENDS)
  writer.setUint32(from + CRC_AT, crc32c(writer.written, from + SUMMED_FROM, writer.at))
}

function writeRecords(
  writer: ByteWriter,
  records: readonly KafkaRecord[],
  baseMs: number,
  nowMs: number,
): void {
  for (let offset = 0; offset < records.length; offset++) {
    const record = records[offset] as KafkaRecord
    writer.ensure(recordBound(record))
    writeRecord(writer, record, offset, (record.timestampMs ?? nowMs) - baseMs)
  }
}

function writeRecord(
  writer: ByteWriter,
  { key, value, headers }: KafkaRecord,
  offset: number,
  afterMs: number,
): void {
  const from = writer.at
  writer.skip(USUAL_PREFIX)
  writer.int8(0)
  writer.varlong(afterMs)
  writer.varint(offset)
  writer.varBytes(key)
  writer.varBytes(value)
  writer.varint(headers.length)
  for (let index = 0; index < headers.length; index++) {
    const [name, content] = headers[index] as (typeof headers)[number]
    writer.varText(name)
    if (typeof content === 'string') writer.varText(content)
    else writer.varBytes(content)
  }
  writer.prefix(from, USUAL_PREFIX)
}

interface Times {
  readonly earliest: number
  readonly latest: number
}

/** The records' times are counted from the earliest. */
function timesOf(records: readonly KafkaRecord[], nowMs: number): Times {
  let earliest = Number.POSITIVE_INFINITY
  let latest = Number.NEGATIVE_INFINITY
  for (const { timestampMs } of records) {
    earliest = Math.min(earliest, timestampMs ?? nowMs)
    latest = Math.max(latest, timestampMs ?? nowMs)
  }
  return { earliest, latest }
}
