import type { ByteWriter } from './byte-writer.ts'

/** Number of the Produce request in Kafka's protocol. */
export const PRODUCE_KEY = 0
/** From here on batches of magic 2 are taken. */
export const LEAST_PRODUCE_VERSION = 3
/** The last version whose layout is written and read here. */
export const LAST_PRODUCE_VERSION = 7

/** From this version on the answer has the log's first offset too. */
const LOG_START_FROM = 5
const ALL_REPLICAS = -1
const INT16 = 2
const INT32 = 4
const INT64 = 8

/** What the broker said about one partition. */
export interface PartitionAnswer {
  readonly topic: string
  readonly partition: number
  /** 0: stored. */
  readonly code: number
  /** Of the first record; -1 when it is not stored. */
  readonly baseOffset: bigint
}

/** An answer to a Produce request. */
export interface ProduceAnswer {
  readonly partitions: readonly PartitionAnswer[]
  /** Milliseconds that the broker asks to be left alone. */
  readonly throttleMs: number
}

/**
 * Begins a request that waits for all in-sync replicas, at the broker for at most `timeoutMs`.
 * `transactionalId`: of the transaction that its batches belong to; `null`: none.
 */
export function beginProduce(
  writer: ByteWriter,
  timeoutMs: number,
  topics: number,
  transactionalId: string | null = null,
): void {
  writer.clear()
  if (transactionalId !== null) writer.text16(transactionalId)
  writer.ensure(INT16 + INT16 + INT32 + INT32)
  if (transactionalId === null) writer.int16(-1)
  writer.int16(ALL_REPLICAS)
  writer.int32(timeoutMs)
  writer.int32(topics)
}

/** Begins the partitions of one topic. */
export function beginTopic(writer: ByteWriter, topic: string, partitions: number): void {
  writer.text16(topic)
  writer.ensure(INT32)
  writer.int32(partitions)
}

/** Begins one partition; its batch follows. Returns what `endPartition` takes. */
export function beginPartition(writer: ByteWriter, partition: number): number {
  writer.ensure(INT32 + INT32)
  writer.int32(partition)
  return writer.reserve32()
}

export function endPartition(writer: ByteWriter, begun: number): void {
  writer.setInt32(begun, writer.at - begun - INT32)
}

/** Reads an answer of version 3 to 7; throws a `RangeError` when it is cut short. */
export function readProduceAnswer(payload: Buffer, version: number): ProduceAnswer {
  const partitions: PartitionAnswer[] = []
  const afterOffset = version < LOG_START_FROM ? INT64 : INT64 + INT64
  let at = 0
  const int32 = (): number => {
    at += INT32
    return payload.readInt32BE(at - INT32)
  }
  for (let topics = int32(); topics > 0; topics--) {
    const length = payload.readInt16BE(at)
    const topic = payload.toString('utf8', at + INT16, at + INT16 + length)
    at += INT16 + length
    for (let left = int32(); left > 0; left--) {
      const partition = int32()
      const code = payload.readInt16BE(at)
      const baseOffset = payload.readBigInt64BE(at + INT16)
      partitions.push({ topic, partition, code, baseOffset })
      at += INT16 + INT64 + afterOffset
    }
  }
  return { partitions, throttleMs: int32() }
}
