import { randomBytes } from 'node:crypto'

import { type Broker, ReliablePublisher, sleep, systemClock, type Topic } from 'holdfast'
import type { TopicSettings } from 'holdfast'
import { kafka } from 'holdfast/kafka'
import { type Admin, Kafka, logLevel } from 'kafkajs'

import { type ReadRecord, checkAlike, type KeyOf, plainRecord } from './kafka-message.ts'
import type { Order } from './payload.ts'

const RETRY_MS = 1_000
/** For what the broker still has to write of the run before. */
const SETTLE_MS = 500
export const PARTITIONS = 6

/** What everybody publishes to: one topic with one group, as holdfast makes it. */
export const TOPIC = 'orders'
export const GROUP = 'billing'
export const topics: { readonly [TOPIC]: TopicSettings } = {
  [TOPIC]: { groups: [GROUP], partitions: PARTITIONS, retryLevelsMs: [RETRY_MS] },
}

/** One topic on the brokers, used by all contenders in turn. */
export class Place {
  readonly brokers: readonly string[]
  readonly prefix: string
  /** The topic's name in Kafka. */
  readonly topic: string
  /** The id of the topic's group. */
  readonly groupId: string
  /** A record as holdfast publishes it, for those who write the same by hand. */
  readonly sample: ReadRecord

  private constructor(brokers: readonly string[], prefix: string, sample: ReadRecord) {
    this.brokers = brokers
    this.prefix = prefix
    this.topic = `${prefix}${TOPIC}`
    this.groupId = `${this.topic}.${GROUP}`
    this.sample = sample
  }

  /** Makes it as the topic's ordering wants it, with settings of Kafka's where some are given. */
  static async open(
    brokers: readonly string[],
    topic: Topic<Order>,
    first: Order,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Place> {
    const prefix = `bench-${randomBytes(4).toString('hex')}.`
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
    if (configEntries.length > 0) {
      const made = { topic: `${prefix}${TOPIC}`, numPartitions: PARTITIONS, configEntries }
      await withAdmin(brokers, (admin) => admin.createTopics({ topics: [made] }))
    }
    const broker = kafka({ brokers, prefix })
    const publisher = new ReliablePublisher({ broker, topics, logging: 'silent' })
    try {
      await publisher.publish(topic, first)
    } finally {
      await publisher.close({ timeoutMs: 10_000 })
    }
    return new Place(brokers, prefix, await lastOf(brokers, `${prefix}${TOPIC}`))
  }

  /** A broker object of its own, with connections of its own. */
  broker(driver: 'kafkajs' | 'platformatic' = 'kafkajs'): Broker {
    return kafka({ brokers: this.brokers, prefix: this.prefix, driver })
  }

  /** Publishes one by hand, and throws when it is not what holdfast publishes. */
  async check(order: Order, keyOf: KeyOf): Promise<void> {
    const producer = plainKafka(this.brokers).producer()
    await producer.connect()
    await producer.send({ topic: this.topic, messages: [plainRecord(order, keyOf)] })
    await producer.disconnect()
    checkAlike('kafkajs', await lastOf(this.brokers, this.topic), this.sample)
  }

  /** Lets the broker come to rest. */
  async rest(): Promise<void> {
    await sleep(systemClock, SETTLE_MS)
  }

  /** Deletes it, with everything that holdfast made beside it. */
  async remove(): Promise<void> {
    await withAdmin(this.brokers, async (admin) => {
      const all = await admin.listTopics()
      await admin.deleteTopics({ topics: all.filter((name) => name.startsWith(this.prefix)) })
    })
  }
}

/** A client that says nothing. */
export function plainKafka(brokers: readonly string[]): Kafka {
  return new Kafka({ clientId: 'bench', brokers: [...brokers], logLevel: logLevel.NOTHING })
}

/** The record that was written last. */
async function lastOf(brokers: readonly string[], topic: string): Promise<ReadRecord> {
  const groupId = `bench-${randomBytes(4).toString('hex')}`
  const consumer = plainKafka(brokers).consumer({ groupId })
  await consumer.connect()
  try {
    const offsets = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(topic))
    const left = new Map(offsets.map(({ partition, high }) => [partition, BigInt(high)]))
    for (const [partition, high] of left) if (high === 0n) left.delete(partition)
    let last: (ReadRecord & { readonly timestamp: string }) | null = null
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      consumer
        .run({
          eachMessage: async ({ partition, message }) => {
            if (last === null || message.timestamp >= last.timestamp) last = message
            if (BigInt(message.offset) + 1n === left.get(partition)) left.delete(partition)
            if (left.size === 0) resolve()
          },
        })
        .catch(reject)
    })
    return last as unknown as ReadRecord
  } finally {
    await consumer.disconnect()
  }
}

/** For what is done to topics and groups from outside. */
export async function withAdmin<T>(
  brokers: readonly string[],
  work: (admin: Admin) => Promise<T>,
): Promise<T> {
  const admin = plainKafka(brokers).admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}
