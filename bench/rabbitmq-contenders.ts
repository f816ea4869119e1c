import { connect, type ConsumeMessage } from 'amqplib'
import { ReliableConsumer, ReliablePublisher, type Topic } from 'holdfast'

import type { Contender, Prepared } from './measure.ts'
import type { Order } from './payload.ts'
import { type OpenClient, rawAmqplib } from './rabbitmq-clients.ts'
import { type KeyOf, plainMessage } from './rabbitmq-message.ts'
import { GROUP, type Place, topics } from './rabbitmq-place.ts'
import { type CountSignal, signal } from './signal.ts'
import { withWorkers } from './workers.ts'

const CONCURRENT = 256
const GRACE = { timeoutMs: 10_000 }

/** What contenders of one comparison have in common. */
export interface Match {
  readonly place: Place
  readonly topic: Topic<Order>
  readonly keyOf: KeyOf
  readonly payloads: readonly Order[]
  readonly durability: string
}

/** Moves payloads one at a time, or in bursts of a size. */
export type Pace = 'each' | number

/** A client without holdfast: 256 callers at once, or bursts that are waited for. */
export function clientPublishing(
  name: string,
  open: OpenClient,
  match: Match,
  pace: Pace,
): Contender {
  const { place, keyOf, payloads } = match
  return contender(name, match, async () => {
    const client = await open(place.url, place.exchange)
    const publish = (order: Order): Promise<unknown> => client.publish(plainMessage(order, keyOf))
    // Some connect, or open their channel, with the first message only.
    await publish(payloads[0]!)
    return {
      run: () => (pace === 'each' ? oneByOne(payloads, publish) : bursts(payloads, pace, publish)),
      close: async () => void (await client.close()),
    }
  })
}

/** holdfast: 256 callers of `publish`, or one of `publishBatch`. */
export function holdfastPublishing(match: Match, pace: Pace): Contender {
  const { place, topic, payloads } = match
  return contender('holdfast', match, async () => {
    const publisher = new ReliablePublisher({ broker: place.broker(), topics, logging: 'silent' })
    await publisher.publish(topic, payloads[0]!)
    return {
      run: () =>
        pace === 'each'
          ? oneByOne(payloads, (order) => publisher.publish(topic, order))
          : batches(publisher, topic, payloads, pace),
      close: () => publisher.close(GRACE),
    }
  })
}

/** amqplib by hand, an ack for each message. */
export function rawConsuming(match: Match, prefetch: number): Contender {
  return contender('raw amqplib', match, async () => {
    await fill(match)
    const connection = await connect(match.place.url)
    const channel = await connection.createChannel()
    await channel.prefetch(prefetch)
    const handled = signal(match.payloads.length)
    const handle = (message: ConsumeMessage | null): void => {
      if (message === null) return
      used(JSON.parse(message.content.toString()) as Order, handled)
      channel.ack(message)
    }
    return {
      run: async () => {
        await channel.consume(match.place.queue, handle)
        await handled.reached
      },
      close: () => connection.close(),
    }
  })
}

export function holdfastConsuming(match: Match, prefetch: number): Contender {
  const { place, topic } = match
  return contender('holdfast', match, async () => {
    await fill(match)
    const handled = signal(match.payloads.length)
    const consumer = new ReliableConsumer({
      broker: place.broker(),
      topic,
      group: GROUP,
      topics,
      concurrency: prefetch,
      prefetch: { messages: prefetch },
      handler: (order) => used(order, handled),
      logging: 'silent',
    })
    // Connecting and declaring is not counted for the others either.
    consumer.pause()
    await consumer.start()
    return {
      run: async () => {
        consumer.resume()
        await handled.reached
      },
      close: () => consumer.drain(GRACE),
    }
  })
}

function used(order: Order, handled: CountSignal): void {
  if (order.order === '') throw new Error('an order without a name')
  handled.count()
}

function contender(name: string, match: Match, prepare: () => Promise<Prepared>): Contender {
  return {
    name,
    durability: match.durability,
    messages: match.payloads.length,
    prepare: async () => {
      await match.place.empty()
      return prepare()
    },
  }
}

/** Puts the payloads into the queue, in the same way for whoever consumes them. */
async function fill({ place, keyOf, payloads }: Match): Promise<void> {
  const client = await rawAmqplib(place.url, place.exchange)
  try {
    await oneByOne(payloads, (order) => client.publish(plainMessage(order, keyOf)))
  } finally {
    await client.close()
  }
}

function oneByOne(
  payloads: readonly Order[],
  publish: (order: Order) => Promise<unknown>,
): Promise<void> {
  return withWorkers(CONCURRENT, payloads.length, (at) => publish(payloads[at]!))
}

async function bursts(
  payloads: readonly Order[],
  size: number,
  publish: (order: Order) => Promise<unknown>,
): Promise<void> {
  for (let from = 0; from < payloads.length; from += size) {
    await Promise.all(payloads.slice(from, from + size).map(publish))
  }
}

async function batches(
  publisher: ReliablePublisher,
  topic: Topic<Order>,
  payloads: readonly Order[],
  size: number,
): Promise<void> {
  for (let from = 0; from < payloads.length; from += size) {
    const outcomes = await publisher.publishBatch(topic, payloads.slice(from, from + size))
    const bad = outcomes.find(({ status }) => status !== 'confirmed')
    if (bad !== undefined) throw new Error(`a publish ended ${bad.status}`, { cause: bad })
  }
}
