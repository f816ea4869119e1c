import { contender, holdfastThrough, type Match } from './kafka-contenders.ts'
import type { Comparison } from './kafka-figures.ts'
import { plainRecord } from './kafka-message.ts'
import type { Contender } from './measure.ts'

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
