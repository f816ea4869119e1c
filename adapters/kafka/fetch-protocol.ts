import { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import type { AbortedTransaction } from './record-batch.ts'

/** A partition and where it is read from. */
export interface FetchPart {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/** What one request may bring. */
export interface FetchLimits {
  readonly maxWaitMs: number
  readonly maxBytes: number
  readonly maxBytesPerPartition: number
}

/** What a broker answered about a partition; the records are not read yet. */
export interface FetchAnswer {
  readonly topic: string
  readonly partition: number
  /** Kafka's error code; 0: none. */
  readonly error: number
  readonly highWatermark: bigint
  /** Where the log begins. */
  readonly logStart: bigint
  readonly aborted: readonly AbortedTransaction[]
  readonly records: Buffer
}

/** What a broker answered as a whole. */
export interface FetchAnswers {
  readonly throttleMs: number
  readonly error: number
  readonly parts: readonly FetchAnswer[]
}

/** Fetch, in the version that every broker from 2.3 to 4.x takes. */
export const FETCH = { key: 1, version: 11, name: 'Fetch' } as const

const NO_RECORDS = Buffer.alloc(0)
/** An ordinary consumer, that reads what is committed, without a fetch session. */
const CONSUMER = -1
const MIN_BYTES = 1
const READ_COMMITTED = 1
const NO_SESSION = 0
const NO_SESSION_EPOCH = -1
const UNKNOWN = -1
/** Bytes before the topics, and of one partition. */
const HEAD = 29
const PART = 28

/** Writes the body of a request; what the writer had before goes. */
export function encodeFetch(
  writer: ByteWriter,
  parts: readonly FetchPart[],
  { maxWaitMs, maxBytes, maxBytesPerPartition }: FetchLimits,
): Buffer {
  writer.clear()
  writer.ensure(HEAD)
  for (const number of [CONSUMER, maxWaitMs, MIN_BYTES, maxBytes]) writer.int32(number)
  writer.int8(READ_COMMITTED)
  for (const number of [NO_SESSION, NO_SESSION_EPOCH]) writer.int32(number)
  const topics = byTopic(parts)
  writer.int32(topics.size)
  for (const [topic, ofTopic] of topics) {
    writer.text16(topic)
    writer.ensure(4 + ofTopic.length * PART)
    writer.int32(ofTopic.length)
    for (const { partition, offset } of ofTopic) {
      writer.int32(partition)
      writer.int32(UNKNOWN)
      writer.int64(offset)
      writer.int64(BigInt(UNKNOWN))
      writer.int32(maxBytesPerPartition)
    }
  }
  writer.ensure(8)
  // No topics to be forgotten, no rack.
  writer.int32(0)
  writer.text16('')
  return writer.written
}

/** The body of an answer. Throws a `RangeError` for what is none. */
export function decodeFetch(body: Buffer): FetchAnswers {
  const reader = new ByteReader(body)
  const throttleMs = reader.int32()
  const error = reader.int16()
  reader.int32()
  const topics = reader.list((one) => {
    const topic = one.text() ?? ''
    return one.list((part) => readPart(topic, part))
  })
  return { throttleMs, error, parts: topics.flat() }
}

function readPart(topic: string, reader: ByteReader): FetchAnswer {
  const partition = reader.int32()
  const error = reader.int16()
  const highWatermark = reader.int64()
  // The last stable offset.
  reader.int64()
  const logStart = reader.int64()
  const aborted = reader.list((one) => ({ producerId: one.int64(), firstOffset: one.int64() }))
  // A replica nearer to us; we read from leaders.
  reader.int32()
  const records = reader.bytes() ?? NO_RECORDS
  return { topic, partition, error, highWatermark, logStart, aborted, records }
}

function byTopic(parts: readonly FetchPart[]): ReadonlyMap<string, readonly FetchPart[]> {
  const topics = new Map<string, FetchPart[]>()
  for (const part of parts) {
    const ofTopic = topics.get(part.topic)
    if (ofTopic === undefined) topics.set(part.topic, [part])
    else ofTopic.push(part)
  }
  return topics
}
