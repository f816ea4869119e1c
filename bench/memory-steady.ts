import { join } from 'node:path'

import {
  type Broker,
  ReliableConsumer,
  ReliablePublisher,
  topic,
  type Topic,
  type TopicSettings,
} from 'holdfast'
import { kafka } from 'holdfast/kafka'
import { memory } from 'holdfast/memory'
import { rabbitmq } from 'holdfast/rabbitmq'

import { keyOfOrder } from './kafka-message.ts'
import { TOPIC as KAFKA_TOPIC, topics as onKafka } from './kafka-place.ts'
import type { Progress, SteadyCase, SteadyResult } from './memory-case.ts'
import { makeOrders, type Order } from './payload.ts'
import { TOPIC, topics as onRabbitmq } from './rabbitmq-place.ts'
import { rssMiB, type RssSample, slopePer100000 } from './rss.ts'
import { type CountSignal, signal } from './signal.ts'
import { openShop } from './sqlite-shop.ts'
import { withWorkers } from './workers.ts'

const SAMPLES = 100
const CONCURRENT = 256
const PER_TRANSACTION = 100

/** Moves messages and waits until all of them are handled. */
interface Path {
  move(orders: readonly Order[]): Promise<void>
  close(): Promise<void>
}

/** Moves the messages in a hundred portions and looks at the memory after each. */
export async function steady(one: SteadyCase, progress: Progress): Promise<SteadyResult> {
  const { through, messages } = one
  const portion = Math.ceil(messages / SAMPLES)
  const orders = makeOrders(portion)
  const path = await pathOf(one)
  const samples: RssSample[] = []
  const start = performance.now()
  for (let moved = portion; moved <= portion * SAMPLES; moved += portion) {
    await path.move(orders)
    const sample = { messages: moved, rssMiB: rssMiB() }
    samples.push(sample)
    progress(`${through}: ${moved} messages, RSS ${sample.rssMiB.toFixed(1)} MiB`)
  }
  const tookMs = performance.now() - start
  await path.close()
  return {
    kind: 'steady',
    messages: portion * SAMPLES,
    slopeMiB: slopePer100000(samples),
    endMiB: samples.at(-1)?.rssMiB ?? Number.NaN,
    perSecond: (portion * SAMPLES * 1_000) / tookMs,
  }
}

/** Counts what is handled against the portion that is on its way. */
class Portions {
  #present: CountSignal = signal(1)

  readonly handled = (): void => this.#present.count()

  start(size: number): Promise<void> {
    this.#present = signal(size)
    return this.#present.reached
  }
}

function pathOf(one: SteadyCase): Promise<Path> {
  switch (one.through) {
    case 'memory':
      return brokerPath(memory(), { groups: ['billing'] })
    case 'sqlite':
      return sqlitePath(one.directory)
    case 'rabbitmq':
      return brokerPath(rabbitmq({ url: one.url, prefix: one.prefix }), onRabbitmq[TOPIC])
    case 'kafka': {
      const { brokers, prefix } = one
      const keyed = topic<Order>(KAFKA_TOPIC, { key: keyOfOrder })
      return brokerPath(kafka({ brokers, prefix }), onKafka[KAFKA_TOPIC], keyed)
    }
  }
}

async function brokerPath(
  broker: Broker,
  settings: TopicSettings,
  orders: Topic<Order> = topic<Order>('orders'),
): Promise<Path> {
  const topics = { orders: settings }
  const portions = new Portions()
  const publisher = new ReliablePublisher({ broker, topics, logging: 'silent' })
  await publisher.open()
  const consumer = new ReliableConsumer({
    broker,
    topic: orders,
    group: 'billing',
    topics,
    handler: portions.handled,
    logging: 'silent',
  })
  await consumer.start()
  return {
    move: async (taken) => {
      const handled = portions.start(taken.length)
      await withWorkers(CONCURRENT, taken.length, (at) => publisher.publish(orders, taken[at]!))
      await handled
    },
    close: async () => {
      await consumer.drain({ timeoutMs: 10_000 })
      await publisher.close({ timeoutMs: 10_000 })
    },
  }
}

async function sqlitePath(directory: string): Promise<Path> {
  const portions = new Portions()
  const shop = await openShop(
    join(directory, 'steady.db'),
    'one file',
    PER_TRANSACTION,
    portions.handled,
  )
  let number = 0
  // An order's id is unique in the shop's table, so each portion writes new ones.
  const renamed = (order: Order): Order => ({ ...order, order: `o-${number++}` })
  return {
    move: async (taken) => {
      const handled = portions.start(taken.length)
      await shop.take(taken.map(renamed), PER_TRANSACTION)
      await handled
    },
    close: shop.close,
  }
}
