import { topic, type Topic } from 'holdfast'

import type { Figure } from './figure.ts'
import { interleaved } from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import { clients, rawAmqplib } from './rabbitmq-clients.ts'
import {
  clientPublishing,
  holdfastConsuming,
  holdfastPublishing,
  type Match,
  type Pace,
  rawConsuming,
} from './rabbitmq-contenders.ts'
import { type Comparison, figuresOf } from './rabbitmq-figures.ts'
import { rabbitmqMemory } from './rabbitmq-memory.ts'
import { checkAlike, type KeyOf, keyOfOrder, plainMessage } from './rabbitmq-message.ts'
import { type BenchNode, benchNode, checkNode } from './rabbitmq-node.ts'
import { Place, TOPIC } from './rabbitmq-place.ts'
import type { Suite, SuiteContext } from './suite.ts'

const MESSAGES = 20_000
/** One that is slow by nature would only take longer with more. */
const MESSAGES_OF_SLOW = 4_000
const slow = new Set(['rascal'])
const BATCH = 1_000
const PREFETCH = 256

const unordered = topic<Order>(TOPIC)
const keyed = topic<Order>(TOPIC, { key: keyOfOrder })

/** A quorum queue on one node: holdfast, amqplib by hand and other clients, and what memory it takes. */
export const rabbitmq: Suite = {
  name: 'rabbitmq',
  messages: 2_000_000,
  check: checkNode,
  run: async (context) => {
    const node = await benchNode()
    try {
      const figures = [
        ...(await withMatch(node, unordered, null, (match) => compared(match, context, plain))),
        ...(await withMatch(node, keyed, keyOfOrder, (match) => compared(match, context, byKey))),
      ]
      return [...figures, ...(await rabbitmqMemory(node, context))]
    } finally {
      await node.remove()
    }
  },
}

/** The comparisons without order. */
function plain(match: Match): readonly Comparison[] {
  return [
    {
      name: 'publish, 256 at once',
      contenders: [holdfastPublishing(match, 'each'), ...everyClient(match, 'each')],
      targets: { rate: 1, cpu: 1.15 },
    },
    {
      name: 'publish, bursts of 1 000',
      contenders: [holdfastPublishing(match, BATCH), ...everyClient(match, BATCH)],
      targets: { fastest: 1 },
    },
    {
      name: 'consume, prefetch 256',
      contenders: [holdfastConsuming(match, PREFETCH), rawConsuming(match, PREFETCH)],
      targets: { rate: 0.95, cpu: 1.25 },
    },
  ]
}

function byKey(match: Match): readonly Comparison[] {
  const raw = clientPublishing('raw amqplib', rawAmqplib, match, 'each')
  return [
    {
      name: 'publish, 256 at once, 10 000 keys',
      contenders: [holdfastPublishing(match, 'each'), raw],
      targets: { rate: 0.9 },
    },
  ]
}

function everyClient(match: Match, pace: Pace) {
  return clients.map(([name, open]) => {
    const messages = slow.has(name) ? MESSAGES_OF_SLOW : MESSAGES
    return clientPublishing(
      name,
      open,
      { ...match, payloads: match.payloads.slice(0, messages) },
      pace,
    )
  })
}

async function compared(
  match: Match,
  { rounds, warmUps, progress }: SuiteContext,
  comparisons: (match: Match) => readonly Comparison[],
): Promise<readonly Figure[]> {
  const figures: Figure[] = []
  for (const comparison of comparisons(match)) {
    const told = (text: string): void => progress(`${comparison.name}, ${text}`)
    const { contenders } = comparison
    const measured = await interleaved(contenders, { rounds, warmUps, progress: told })
    figures.push(...figuresOf(comparison, measured))
  }
  return figures
}

/** Declares a place, sees to it that all publish the same there, and removes it in the end. */
async function withMatch<T>(
  { url, version }: BenchNode,
  to: Topic<Order>,
  keyOf: KeyOf,
  work: (match: Match) => Promise<T>,
): Promise<T> {
  const payloads = makeOrders(MESSAGES)
  const place = await Place.open(url, to, payloads[0]!)
  try {
    await checkClients(place, keyOf, payloads[0]!)
    const durability = `quorum queue, RabbitMQ ${version}`
    return await work({ place, topic: to, keyOf, payloads, durability })
  } finally {
    await place.remove()
  }
}

async function checkClients(place: Place, keyOf: KeyOf, order: Order): Promise<void> {
  for (const [name, open] of clients) {
    const client = await open(place.url, place.exchange)
    await client.publish(plainMessage(order, keyOf))
    await client.close()
    checkAlike(name, await place.take(), place.sample)
  }
}
