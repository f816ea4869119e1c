import { holdfastReading } from './kafka-consumers.ts'
import { contender, holdfastThrough, type Match } from './kafka-contenders.ts'
import type { Comparison } from './kafka-figures.ts'
import { type Filled, reading } from './kafka-filled.ts'
import { plainRecord } from './kafka-message.ts'
import type { Contender } from './measure.ts'
import type { Order } from './payload.ts'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const BATCH = 500
const ALL_REPLICAS = -1

/** @platformatic/kafka needs Node 22.22. */
export const hasPlatformatic: boolean = major > 22 || (major === 22 && minor >= 22)

/** holdfast on the connections of @platformatic/kafka, and that package by hand. */
export function throughPlatformatic(name: string, match: Match): Comparison {
  return {
    name: `${name}, through @platformatic/kafka`,
    holdfast: holdfastThrough('platformatic', match),
    others: [{ contender: batchesByHand(match), rate: 0.9 }],
  }
}

/** As its documentation has it: an idempotent producer, batches of 500, one after the other. */
function batchesByHand(match: Match): Contender {
  return contender(`@platformatic/kafka, send of ${BATCH} by hand`, match, async () => {
    const { place, keyOf, payloads } = match
    // On an older Node it is not even loaded.
    const { compatibilityPartitioner, Producer, stringSerializers } =
      await import('@platformatic/kafka')
    const producer = new Producer<string, string, string, string>({
      clientId: 'by-hand',
      bootstrapBrokers: [...place.brokers],
      serializers: stringSerializers,
      idempotent: true,
      acks: ALL_REPLICAS,
      // Without keys its own: that one puts all of them into one partition.
      ...(keyOf === null ? {} : { partitioner: compatibilityPartitioner }),
    })
    const send = async (from: number, to: number): Promise<void> => {
      const messages = payloads.slice(from, to).map((order) => {
        const { key, value, headers } = plainRecord(order, keyOf)
        const own = { value: String(value), headers: headers as Record<string, string> }
        return { topic: place.topic, ...own, ...(key ? { key: String(key) } : {}) }
      })
      await producer.send({ messages })
    }
    await send(0, 1)
    return {
      run: async () => {
        for (let from = 0; from < payloads.length; from += BATCH) await send(from, from + BATCH)
      },
      close: () => producer.close(),
    }
  })
}

/** The same topic read through it, and by that package by hand. */
export function readingThroughPlatformatic(filled: Filled): Comparison {
  return {
    name: 'consume by key, async handler, through @platformatic/kafka',
    holdfast: holdfastReading(filled, 'async', 'platformatic'),
    others: [{ contender: streamByHand(filled), rate: null }],
  }
}

/** As its documentation has it: a stream whose messages are handled one after the other; it commits by itself. */
function streamByHand(filled: Filled): Contender {
  return reading('@platformatic/kafka, its stream', filled, async (tally) => {
    const { Consumer, stringDeserializers } = await import('@platformatic/kafka')
    const { brokers, groupId, topic } = filled.place
    const consumer = new Consumer({
      clientId: 'by-hand',
      bootstrapBrokers: [...brokers],
      groupId,
      deserializers: stringDeserializers,
      autocommit: true,
    })
    const handle = async (order: Order): Promise<void> => tally.handle(order)
    const stream = await consumer.consume({
      topics: [topic],
      mode: 'committed',
      fallbackMode: 'earliest',
    })
    const readAll = async (): Promise<void> => {
      for await (const { value } of stream) await handle(JSON.parse(value) as Order)
    }
    readAll().catch((error: unknown) => tally.fail(error as Error))
    return async () => {
      await stream.close()
      await consumer.close(true)
    }
  })
}
