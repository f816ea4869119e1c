import { randomBytes } from 'node:crypto'

import type { Producer } from 'kafkajs'

import { kafka, type KafkaOptions } from '../../../adapters/kafka/index.ts'
import { topic as topicOf } from '../../../src/contract/topic.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { LeaderMover } from '../../brokers/kafka-leaders.ts'
import type { KafkaCluster } from '../../brokers/kafka-cluster.ts'
import { readEach } from '../../brokers/kafka-read.ts'
import { createTopic, plainKafka } from '../../brokers/kafka-topics.ts'

/** What is sent in one call: as many records as that, dealt out over all partitions. */
const RECORDS = 60
const PARTITIONS = 6
const BODY = 'x'.repeat(200)

/** Who writes while the leaders move. */
export interface Writer {
  /** Writes records with these numbers as their bodies' beginning; resolves with those acknowledged. */
  write(numbers: readonly number[]): Promise<readonly number[]>
  close(): Promise<void>
}

/** What came of it. */
export interface Loss {
  readonly attempted: number
  readonly acknowledged: number
  /** Acknowledged, and not in the log. */
  readonly lost: number
  /** Records that are in the log more than once. */
  readonly doubled: number
  /** How often a partition came to another leader. */
  readonly moves: number
  readonly tookS: number
}

/** Before the first run. */
export const NOTHING: Loss = {
  attempted: 0,
  acknowledged: 0,
  lost: 0,
  doubled: 0,
  moves: 0,
  tookS: 0,
}

/** Two runs as one. */
export function added(one: Loss, other: Loss): Loss {
  const names = Object.keys(one) as (keyof Loss)[]
  const sums = names.map((name) => [name, one[name] + other[name]])
  return Object.fromEntries(sums) as unknown as Loss
}

/** How a run is to be. */
export interface LossOptions {
  readonly forMs: number
  /** Calls of `write` that are open at once. */
  readonly atOnce: number
}

/** A number and what makes the record as large as others. */
function bodyOf(number: number): string {
  return `${number} ${BODY}`
}

/**
 * Writes to a topic of six partitions on three brokers while their leaders are moved again and again,
 * then reads the whole topic and counts what is missing.
 */
export async function lossUnderMovingLeaders(
  cluster: KafkaCluster,
  open: (topic: string, partitions: number) => Promise<Writer>,
  { forMs, atOnce }: LossOptions,
): Promise<Loss> {
  const topic = `leaders-${randomBytes(6).toString('hex')}`
  await createTopic(cluster.brokers, topic, { partitions: PARTITIONS, replication: 3 })
  await cluster.untilInSync(topic)
  const writer = await open(topic, PARTITIONS)
  const tally = new Tally()
  try {
    const mover = await LeaderMover.start(cluster, topic)
    const begun = performance.now()
    await Promise.all(Array.from({ length: atOnce }, () => tally.write(writer, begun + forMs)))
    const tookS = (performance.now() - begun) / 1_000
    await mover.stop()
    await writer.close()
    return { ...(await tally.compare(cluster.brokers, topic)), moves: mover.moves, tookS }
  } finally {
    await writer.close().catch(() => undefined)
  }
}

/** Which numbers were given out, and which of them were acknowledged. */
class Tally {
  readonly acknowledged = new Set<number>()
  #next = 0

  /** Writes until then; what is not acknowledged is nobody's business. */
  async write(writer: Writer, until: number): Promise<void> {
    while (performance.now() < until) {
      const numbers = Array.from({ length: RECORDS }, () => this.#next++)
      const done = await writer.write(numbers).catch((): readonly number[] => [])
      for (const number of done) this.acknowledged.add(number)
    }
  }

  async compare(brokers: readonly string[], topic: string) {
    const missing = new Set(this.acknowledged)
    const stored = new Set<number>()
    let doubled = 0
    await readEach(brokers, topic, ({ value }) => {
      const number = Number(/\d+/.exec(String(value))?.[0])
      missing.delete(number)
      if (stored.has(number)) doubled++
      stored.add(number)
    })
    const { size: acknowledged } = this.acknowledged
    return { attempted: this.#next, acknowledged, lost: missing.size, doubled }
  }
}

/** kafkajs as most use it: with the word of all replicas, a partition named, and its own retries. */
export async function plainWriter(
  brokers: readonly string[],
  topic: string,
  { partitions, idempotent }: { partitions: number; idempotent: boolean },
): Promise<Writer> {
  const producer: Producer = plainKafka(brokers).producer({
    idempotent,
    allowAutoTopicCreation: false,
    ...(idempotent ? { retry: { retries: 5 } } : {}),
  })
  await producer.connect()
  return {
    write: async (numbers) => {
      const messages = numbers.map((number) => ({
        partition: number % partitions,
        value: bodyOf(number),
      }))
      await producer.send({ topic, acks: -1, messages })
      return numbers
    },
    close: () => producer.disconnect(),
  }
}

/** The library as most use it, over whatever client the options name. */
export function holdfastWriter(
  brokers: readonly string[],
  topic: string,
  options: Partial<KafkaOptions> = {},
): Promise<Writer> {
  const numbered = topicOf<string>(topic, { key: (body) => body.slice(0, body.indexOf(' ')) })
  const publisher = new ReliablePublisher({
    broker: kafka({ ...options, brokers }),
    topics: { [topic]: { groups: [] } },
    topology: 'none',
    deadlineMs: 60_000,
    logging: 'silent',
  })
  return Promise.resolve({
    write: async (numbers) => {
      const outcomes = await publisher.publishBatch(numbered, numbers.map(bodyOf))
      return numbers.filter((_, index) => outcomes[index]?.status === 'confirmed')
    },
    close: () => publisher.close(),
  })
}
