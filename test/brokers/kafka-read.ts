import { randomBytes } from 'node:crypto'

import type { Consumer, IHeaders, KafkaMessage } from 'kafkajs'

import { until } from './handshake.ts'
import { offsetsOf, plainKafka, withAdmin } from './kafka-topics.ts'

const TIMEOUT_MS = 120_000

/** A record as it is in the log. */
export interface PlainRecord {
  readonly partition: number
  readonly offset: bigint
  readonly key: Buffer | null
  /** Null: a tombstone. */
  readonly value: Buffer | null
  readonly headers: IHeaders
  readonly timestampMs: number
}

/** From where to where a partition is read: `low` is there, `high` is not. */
interface Range {
  readonly low: bigint
  readonly high: bigint
}

/**
 * Every record of a topic that is there now, from the first to the last, in the order of each
 * partition: read by a plain client in a group of its own, so what it finds is in the log.
 */
export async function readAll(
  brokers: readonly string[],
  topic: string,
): Promise<readonly PlainRecord[]> {
  const records: PlainRecord[] = []
  await readEach(brokers, topic, (record) => records.push(record))
  return records
}

/** As `readAll`, without keeping anything. */
export async function readEach(
  brokers: readonly string[],
  topic: string,
  each: (record: PlainRecord) => void,
): Promise<void> {
  const ranges = await rangesOf(brokers, topic)
  const open = new Map([...ranges].filter(([, { low, high }]) => low < high))
  if (open.size === 0) return
  const groupId = `reader-${randomBytes(6).toString('hex')}`
  const consumer = plainKafka(brokers, groupId).consumer({ groupId, maxWaitTimeInMs: 100 })
  try {
    await consumer.connect()
    await read(consumer, topic, open, each)
  } finally {
    await consumer.disconnect().catch(() => undefined)
    await withAdmin(brokers, (admin) => admin.deleteGroups([groupId])).catch(() => undefined)
  }
}

/** How many records a topic holds by its offsets: markers of transactions and holes count too. */
export async function depthOf(brokers: readonly string[], topic: string): Promise<bigint> {
  let depth = 0n
  for (const { low, high } of (await rangesOf(brokers, topic)).values()) depth += high - low
  return depth
}

async function rangesOf(
  brokers: readonly string[],
  topic: string,
): Promise<ReadonlyMap<number, Range>> {
  const offsets = await offsetsOf(brokers, topic)
  return new Map(offsets.map(({ partition, low, high }) => [partition, { low, high }]))
}

async function read(
  consumer: Consumer,
  topic: string,
  open: Map<number, Range>,
  each: (record: PlainRecord) => void,
): Promise<void> {
  const next = new Map<number, bigint>()
  // Also told of batches that hold nothing but markers of transactions.
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
    const range = open.get(payload.partition)
    if (range !== undefined && BigInt(payload.lastOffset) + 1n >= range.high) {
      open.delete(payload.partition)
    }
  })
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: ({ batch: { partition, messages } }) => {
      const { high } = open.get(partition) ?? { high: 0n }
      for (const message of messages) {
        const record = recordOf(partition, message)
        // A reader whose group begins anew is sent everything again.
        if (record.offset >= high || record.offset < (next.get(partition) ?? 0n)) continue
        next.set(partition, record.offset + 1n)
        each(record)
      }
      return Promise.resolve()
    },
  })
  const left = (): string => [...open.keys()].join(', ')
  await until(`${topic} read to its end`, () => Promise.resolve(open.size === 0), TIMEOUT_MS).catch(
    (error: unknown) => {
      throw new Error(`partitions ${left()} of ${topic} were not read to their end`, {
        cause: error,
      })
    },
  )
}

function recordOf(partition: number, message: KafkaMessage): PlainRecord {
  return {
    partition,
    offset: BigInt(message.offset),
    key: message.key,
    value: message.value,
    headers: message.headers ?? {},
    timestampMs: Number(message.timestamp),
  }
}
