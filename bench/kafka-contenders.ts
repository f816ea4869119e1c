import { ReliablePublisher, type Topic } from 'holdfast'
import type { Producer } from 'kafkajs'

import { type KeyOf, plainRecord } from './kafka-message.ts'
import { type Place, plainKafka, topics } from './kafka-place.ts'
import type { Contender, Prepared } from './measure.ts'
import type { Order } from './payload.ts'
import { withWorkers } from './workers.ts'

const CONCURRENT = 256
const GRACE = { timeoutMs: 10_000 }
const ALL_REPLICAS = -1

/** What contenders of one comparison have in common. */
export interface Match {
  readonly place: Place
  readonly topic: Topic<Order>
  readonly keyOf: KeyOf
  readonly payloads: readonly Order[]
  readonly durability: string
}

/** holdfast: 256 callers of `publish` at once. */
export function holdfastPublishing(match: Match): Contender {
  return holdfastThrough('kafkajs', match)
}

/** The same on the connections of that client. */
export function holdfastThrough(driver: 'kafkajs' | 'platformatic', match: Match): Contender {
  const { place, topic, payloads } = match
  return contender('holdfast', match, async () => {
    const broker = place.broker(driver)
    const publisher = new ReliablePublisher({ broker, topics, logging: 'silent' })
    await publisher.publish(topic, payloads[0]!)
    return {
      run: () =>
        withWorkers(CONCURRENT, payloads.length, (at) => publisher.publish(topic, payloads[at]!)),
      close: () => publisher.close(GRACE),
    }
  })
}

/** kafkajs by hand, as its documentation says it is fastest: batches of that many, one after the other. */
export function batchesByHand(match: Match, size: number): Contender {
  return byHand(`kafkajs, sendBatch of ${size} by hand`, match, async (producer) => {
    const { place, keyOf, payloads } = match
    for (let from = 0; from < payloads.length; from += size) {
      const orders = payloads.slice(from, from + size)
      const messages = orders.map((order) => plainRecord(order, keyOf))
      const topicMessages = [{ topic: place.topic, messages }]
      await producer.sendBatch({ acks: ALL_REPLICAS, topicMessages })
    }
  })
}

/** kafkajs, one record after the other, each waited for. */
export function oneAfterTheOther(match: Match): Contender {
  return byHand('kafkajs, send of one', match, async (producer) => {
    const { place, keyOf, payloads } = match
    for (const order of payloads) {
      const messages = [plainRecord(order, keyOf)]
      await producer.send({ acks: ALL_REPLICAS, topic: place.topic, messages })
    }
  })
}

function byHand(name: string, match: Match, run: (producer: Producer) => Promise<void>): Contender {
  return contender(name, match, async () => {
    const producer = plainKafka(match.place.brokers).producer({ idempotent: true })
    await producer.connect()
    const { place, keyOf, payloads } = match
    await producer.send({ topic: place.topic, messages: [plainRecord(payloads[0]!, keyOf)] })
    return { run: () => run(producer), close: () => producer.disconnect() }
  })
}

/** One that begins when the broker is at rest. */
export function contender(name: string, match: Match, prepare: () => Promise<Prepared>): Contender {
  return {
    name,
    durability: match.durability,
    messages: match.payloads.length,
    prepare: async () => {
      await match.place.rest()
      return prepare()
    },
  }
}
