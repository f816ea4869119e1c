import { ReliableConsumer } from 'holdfast'
import type { EachBatchPayload } from 'kafkajs'

import { type Filled, reading } from './kafka-filled.ts'
import { GROUP, PARTITIONS, plainKafka, topics } from './kafka-place.ts'
import type { Contender } from './measure.ts'
import type { Order } from './payload.ts'
import type { Tally } from './tally.ts'

const GRACE = { timeoutMs: 10_000 }
/** As many handlers at once as kafkajs has: one per partition. */
const CONCURRENT = PARTITIONS
/** Records between two looks at what else is to be done. */
const BETWEEN = 100
const COMMIT_MS = 5_000

/** Whether the handler is awaited. */
export type Handling = 'async' | 'sync'

/** holdfast as a user has it: order per key, and offsets committed. */
export function holdfastReading(
  filled: Filled,
  handling: Handling,
  driver: 'kafkajs' | 'platformatic' = 'kafkajs',
): Contender {
  return reading('holdfast', filled, (tally) => {
    const { handle } = tally
    const handler = handling === 'async' ? async (order: Order) => handle(order) : handle
    return startHoldfast(filled, tally, { driver, handler, concurrency: CONCURRENT })
  })
}

/** What is said about a consumer of holdfast. */
export interface HoldfastSettings {
  readonly handler: (order: Order) => unknown
  readonly concurrency: number
  readonly driver?: 'kafkajs' | 'platformatic'
}

/** Resolves with how it is closed. */
export async function startHoldfast(
  { place, topic }: Filled,
  tally: Tally,
  { driver = 'kafkajs', ...settings }: HoldfastSettings,
): Promise<() => Promise<void>> {
  const consumer = new ReliableConsumer({
    ...settings,
    broker: place.broker(driver),
    topic,
    group: GROUP,
    topics,
    from: 'earliest',
    logging: 'silent',
  })
  void consumer.closed.then((error) => error && tally.fail(error))
  await consumer.start()
  return () => consumer.drain(GRACE)
}

/** kafkajs by hand: each record parsed and handled, one after the other within a partition. */
export function eachBatchByHand(filled: Filled, handling: Handling): Contender {
  const name = handling === 'async' ? 'kafkajs, eachBatch' : 'kafkajs, eachBatch without awaiting'
  return reading(name, filled, (tally) => {
    const handle = async (order: Order): Promise<void> => tally.handle(order)
    return startKafkajs(filled, tally, async (payload) => {
      let left = BETWEEN
      for (const { value, offset } of payload.batch.messages) {
        if (!payload.isRunning() || payload.isStale()) return
        const order = JSON.parse(String(value)) as Order
        if (handling === 'async') await handle(order)
        else tally.handle(order)
        payload.resolveOffset(offset)
        if (--left > 0) continue
        left = BETWEEN
        await payload.heartbeat()
        await payload.commitOffsetsIfNecessary()
      }
    })
  })
}

/** kafkajs that only fetches: nobody looks into the records. */
export function eachBatchForNothing(filled: Filled): Contender {
  return reading('kafkajs, eachBatch that does nothing', filled, (tally) =>
    startKafkajs(filled, tally, async ({ batch }) => tally.count(batch.messages.length)),
  )
}

async function startKafkajs(
  { place }: Filled,
  tally: Tally,
  eachBatch: (payload: EachBatchPayload) => Promise<void>,
): Promise<() => Promise<void>> {
  const consumer = plainKafka(place.brokers).consumer({ groupId: place.groupId })
  consumer.on('consumer.crash', ({ payload }) => tally.fail(payload.error))
  await consumer.connect()
  await consumer.subscribe({ topic: place.topic, fromBeginning: true })
  await consumer.run({
    partitionsConsumedConcurrently: PARTITIONS,
    // What is not handled when the consumer stops comes again.
    eachBatchAutoResolve: false,
    autoCommitInterval: COMMIT_MS,
    eachBatch,
  })
  return () => consumer.disconnect()
}
