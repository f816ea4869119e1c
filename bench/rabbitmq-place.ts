import { randomBytes } from 'node:crypto'

import { connect, type Channel, type ConsumeMessage } from 'amqplib'
import {
  type Broker,
  ReliablePublisher,
  sleep,
  systemClock,
  type Topic,
  type TopicSettings,
} from 'holdfast'
import { rabbitmq } from 'holdfast/rabbitmq'

import type { Order } from './payload.ts'

const RETRY_MS = 1_000
/** For what the broker still has to write of the run before. */
const SETTLE_MS = 500

/** What everybody publishes to and consumes from: one topic with one group, as holdfast declares it. */
export const TOPIC = 'orders'
export const GROUP = 'billing'
export const topics: { readonly [TOPIC]: TopicSettings } = {
  [TOPIC]: { groups: [GROUP], retryLevelsMs: [RETRY_MS] },
}

/** One topic with its queue on the node, used by all contenders in turn. */
export class Place {
  readonly url: string
  readonly prefix: string
  readonly exchange: string
  readonly queue: string
  /** A message as holdfast publishes it, for those who write the same by hand. */
  readonly sample: ConsumeMessage

  private constructor(url: string, prefix: string, sample: ConsumeMessage) {
    this.url = url
    this.prefix = prefix
    this.exchange = `${prefix}${TOPIC}`
    this.queue = `${prefix}${TOPIC}.${GROUP}`
    this.sample = sample
  }

  /** Declares it as the topic's ordering wants it. */
  static async open(url: string, topic: Topic<Order>, first: Order): Promise<Place> {
    const prefix = `bench-${randomBytes(4).toString('hex')}.`
    const broker = rabbitmq({ url, prefix })
    const publisher = new ReliablePublisher({ broker, topics, logging: 'silent' })
    try {
      await publisher.publish(topic, first)
    } finally {
      await publisher.close({ timeoutMs: 10_000 })
    }
    return new Place(url, prefix, await takeOne(url, `${prefix}${TOPIC}.${GROUP}`))
  }

  /** A broker object of its own, with connections of its own. */
  broker(): Broker {
    return rabbitmq({ url: this.url, prefix: this.prefix })
  }

  /** Takes the message that is next in the queue; waits for one. */
  take(): Promise<ConsumeMessage> {
    return takeOne(this.url, this.queue)
  }

  /** Drops what an earlier run left and lets the broker come to rest. */
  async empty(): Promise<void> {
    await withChannel(this.url, (channel) => channel.purgeQueue(this.queue))
    await sleep(systemClock, SETTLE_MS)
  }

  /** Deletes it. */
  async remove(): Promise<void> {
    const retry = `${this.queue}.retry.${RETRY_MS}`
    await withChannel(this.url, async (channel) => {
      for (const queue of [this.queue, retry, `${this.queue}.dead`])
        await channel.deleteQueue(queue)
      for (const exchange of [this.exchange, retry]) await channel.deleteExchange(exchange)
    })
  }
}

/** By consuming: a queue with a single active consumer has no `get`. */
async function takeOne(url: string, queue: string): Promise<ConsumeMessage> {
  return withChannel(url, async (channel) => {
    await channel.prefetch(1)
    const message = await new Promise<ConsumeMessage | null>((resolve, reject) => {
      channel.consume(queue, resolve).catch(reject)
    })
    if (message === null) throw new Error(`${queue} is gone`)
    channel.ack(message)
    return message
  })
}

async function withChannel<T>(url: string, work: (channel: Channel) => Promise<T>): Promise<T> {
  const connection = await connect(url)
  // What it says fails the call that is waiting too.
  connection.on('error', () => undefined)
  try {
    return await work(await connection.createChannel())
  } finally {
    await connection.close()
  }
}
