import { topic, type Topic } from 'holdfast'

import type { Figure } from './figure.ts'
import {
  batchesByHand,
  holdfastPublishing,
  type Match,
  oneAfterTheOther,
} from './kafka-contenders.ts'
import { consuming } from './kafka-consuming.ts'
import { type Comparison, figuresOf } from './kafka-figures.ts'
import { kafkaMemory } from './kafka-memory.ts'
import { type KeyOf, keyOfOrder } from './kafka-message.ts'
import { type BenchKafka, benchKafka, checkKafka } from './kafka-node.ts'
import { PARTITIONS, Place, TOPIC } from './kafka-place.ts'
import { hasPlatformatic, throughPlatformatic } from './kafka-platformatic.ts'
import { interleaved } from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import type { Suite, SuiteContext } from './suite.ts'

const MESSAGES = 50_000
/** One record after the other is slow by nature: more would only take longer. */
const MESSAGES_OF_SLOW = 2_000
const BATCH = 500

const unordered = topic<Order>(TOPIC)
const keyed = topic<Order>(TOPIC, { key: keyOfOrder })

/** A topic of six partitions: holdfast and kafkajs by hand, idempotent and with acks=all. */
export const kafka: Suite = {
  name: 'kafka',
  messages: 2_000_000,
  check: checkKafka,
  run: async (context) => {
    const node = await benchKafka()
    try {
      return [
        ...(await publishing(node, unordered, null, 'publish, 256 at once', context)),
        ...(await publishing(
          node,
          keyed,
          keyOfOrder,
          'publish, 256 at once, 10 000 keys',
          context,
        )),
        ...(await consuming(node, context)),
        ...(await kafkaMemory(node, context)),
      ]
    } finally {
      await node.remove()
    }
  },
}

async function publishing(
  node: BenchKafka,
  to: Topic<Order>,
  keyOf: KeyOf,
  name: string,
  { rounds, warmUps, progress }: SuiteContext,
): Promise<readonly Figure[]> {
  const payloads = makeOrders(MESSAGES)
  const place = await Place.open(node.brokers, to, payloads[0]!)
  try {
    await place.check(payloads[0]!, keyOf)
    const durability = `acks=all, ${PARTITIONS} partitions, ${node.name}`
    const match: Match = { place, topic: to, keyOf, payloads, durability }
    const few: Match = { ...match, payloads: payloads.slice(0, MESSAGES_OF_SLOW) }
    const comparison: Comparison = {
      name,
      holdfast: holdfastPublishing(match),
      others: [
        { contender: batchesByHand(match, BATCH), rate: 0.9 },
        { contender: oneAfterTheOther(few), rate: 10 },
      ],
    }
    const comparisons = [comparison]
    if (hasPlatformatic) comparisons.push(throughPlatformatic(name, match))
    const figures: Figure[] = []
    for (const one of comparisons) {
      const contenders = [one.holdfast, ...one.others.map((other) => other.contender)]
      const told = (text: string): void => progress(`${one.name}, ${text}`)
      const measured = await interleaved(contenders, { rounds, warmUps, progress: told })
      figures.push(...figuresOf(one, measured))
    }
    return figures
  } finally {
    await place.remove()
  }
}
