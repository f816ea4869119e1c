import type { Topic } from 'holdfast'

import { keyOfOrder, plainRecord } from './kafka-message.ts'
import { type Place, plainKafka, withAdmin } from './kafka-place.ts'
import type { Contender, Prepared } from './measure.ts'
import { makeOrder, type Order } from './payload.ts'
import { Tally } from './tally.ts'

const BATCH = 500
const ALL_REPLICAS = -1
/** `GROUP_ID_NOT_FOUND` of Kafka's protocol. */
const NO_SUCH_GROUP = 69

/** A topic that is full, and from which everybody in turn reads everything. */
export interface Filled {
  readonly place: Place
  readonly topic: Topic<Order>
  readonly messages: number
  /** So many of them are read before the clock starts: joining the group and the first fetch are not counted. */
  readonly skipped: number
  readonly durability: string
}

/** Writes that many orders behind what is there, with their keys, and removes what was there before. */
export async function fill(place: Place, messages: number): Promise<void> {
  const { topic, brokers } = place
  await withAdmin(brokers, async (admin) => {
    const offsets = await admin.fetchTopicOffsets(topic)
    const partitions = offsets.map(({ partition, high }) => ({ partition, offset: high }))
    await admin.deleteTopicRecords({ topic, partitions })
  })
  const producer = plainKafka(brokers).producer({ idempotent: true })
  await producer.connect()
  for (let from = 0; from < messages; from += BATCH) {
    const size = Math.min(BATCH, messages - from)
    const records = Array.from({ length: size }, (_, at) =>
      plainRecord(makeOrder(from + at), keyOfOrder),
    )
    await producer.sendBatch({ acks: ALL_REPLICAS, topicMessages: [{ topic, messages: records }] })
  }
  await producer.disconnect()
  await checkFilled(place, messages)
}

async function checkFilled({ topic, brokers }: Place, messages: number): Promise<void> {
  const offsets = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(topic))
  const found = offsets.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0)
  if (found !== messages) throw new Error(`${topic} has ${found} records, not ${messages}`)
}

/** Starts a consumer that tells the tally what it handles, and resolves with how it is closed. */
export type StartConsumer = (tally: Tally) => Promise<() => Promise<void>>

/** One that reads all of it from the beginning, whatever was read before. */
export function reading(name: string, filled: Filled, start: StartConsumer): Contender {
  const { place, messages, skipped, durability } = filled
  const prepare = async (): Promise<Prepared> => {
    await forgetGroup(place)
    await place.rest()
    const tally = new Tally(messages, skipped)
    const close = await start(tally)
    await tally.warm
    return {
      run: () => tally.all,
      close: async () => {
        tally.end()
        await close()
      },
    }
  }
  return { name, durability, messages: messages - skipped, prepare }
}

/** A group without offsets starts at the oldest message. */
export async function forgetGroup({ brokers, groupId }: Place): Promise<void> {
  await withAdmin(brokers, async (admin) => {
    try {
      await admin.deleteGroups([groupId])
    } catch (error) {
      const { groups = [] } = error as { readonly groups?: readonly { errorCode: number }[] }
      if (groups.length === 0 || groups.some((one) => one.errorCode !== NO_SUCH_GROUP)) throw error
    }
  })
}
