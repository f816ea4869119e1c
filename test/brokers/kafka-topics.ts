import { Kafka, logLevel, type Admin, type ITopicConfig } from 'kafkajs'

import { until } from './handshake.ts'
import { askCluster, type PartitionFacts } from './kafka-ask.ts'

const LEADER_TIMEOUT_MS = 60_000

/** How a topic is to be made. */
export interface TopicWish {
  readonly partitions?: number
  /** Replicas; default what the brokers say. */
  readonly replication?: number
  readonly config?: Readonly<Record<string, string>>
}

/** A plain client of kafkajs that knows nothing of the library, and says nothing. */
export function plainKafka(brokers: readonly string[], clientId: string = 'plain'): Kafka {
  return new Kafka({
    clientId,
    brokers: [...brokers],
    logLevel: logLevel.NOTHING,
    connectionTimeout: 3_000,
    requestTimeout: 15_000,
  })
}

/** Runs `act` with an admin client of its own. */
export async function withAdmin<T>(
  brokers: readonly string[],
  act: (admin: Admin) => Promise<T>,
): Promise<T> {
  const admin = plainKafka(brokers).admin()
  try {
    await admin.connect()
    return await act(admin)
  } finally {
    await admin.disconnect().catch(() => undefined)
  }
}

/** Makes a topic; resolves when each of these brokers knows a leader of each partition, rejects when it is there. */
export async function createTopic(
  brokers: readonly string[],
  topic: string,
  { partitions = 1, replication = -1, config = {} }: TopicWish = {},
): Promise<void> {
  const wish: ITopicConfig = {
    topic,
    numPartitions: partitions,
    replicationFactor: replication,
    configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
  }
  await withAdmin(brokers, async (admin) => {
    const isNew = await admin.createTopics({ topics: [wish], waitForLeaders: false })
    if (!isNew) throw new Error(`the topic ${topic} is there already`)
  })
  for (const broker of brokers) {
    await until(`${broker} knows ${topic}`, () => isLed(broker, topic), LEADER_TIMEOUT_MS)
  }
}

/** A broker hears of a new topic a moment after the one that made it. */
async function isLed(broker: string, topic: string): Promise<boolean> {
  const facts = await partitionsOf([broker], topic).catch(() => null)
  return facts?.every(({ leader }) => leader >= 0) ?? false
}

export async function deleteTopic(brokers: readonly string[], topic: string): Promise<void> {
  await withAdmin(brokers, (admin) => admin.deleteTopics({ topics: [topic] }))
}

/** In the order of their numbers, as the first broker knows them that answers. */
export async function partitionsOf(
  brokers: readonly string[],
  topic: string,
): Promise<readonly PartitionFacts[]> {
  const asked = brokers.map((broker) => askCluster(portOf(broker), topic))
  const { partitions } = await Promise.any(asked)
  if (partitions === null) throw new Error(`there is no topic ${topic}`)
  return partitions
}

/** Partition → id of its leader. */
export async function leadersOf(
  brokers: readonly string[],
  topic: string,
): Promise<ReadonlyMap<number, number>> {
  const facts = await partitionsOf(brokers, topic)
  return new Map(facts.map(({ partition, leader }) => [partition, leader]))
}

/** Where a partition's log begins and ends. */
export interface PartitionOffsets {
  readonly partition: number
  readonly low: bigint
  /** The offset the next record gets. */
  readonly high: bigint
}

/** Of every partition; waits for leaders that were just elected, which do not know their end at once. */
export async function offsetsOf(
  brokers: readonly string[],
  topic: string,
): Promise<readonly PartitionOffsets[]> {
  let found: readonly PartitionOffsets[] = []
  const asked = async (): Promise<boolean> => {
    const offsets = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(topic))
    found = offsets.map(({ partition, low, high }) => {
      return { partition, low: BigInt(low), high: BigInt(high) }
    })
    return true
  }
  const isRetriable = (error: unknown): boolean =>
    (error as { retriable?: boolean }).retriable === true
  const unlessElecting = (): Promise<boolean> =>
    asked().catch((error: unknown) => {
      if (isRetriable(error)) return false
      throw error
    })
  await until(`the offsets of ${topic}`, unlessElecting, LEADER_TIMEOUT_MS)
  return found
}

function portOf(broker: string): number {
  return Number(broker.slice(broker.lastIndexOf(':') + 1))
}
