import { topic } from 'holdfast'

import type { Figure } from './figure.ts'
import { slopeFigures } from './memory-figures.ts'
import { inOwnProcess } from './memory-process.ts'
import { makeOrders, type Order } from './payload.ts'
import { type BenchNode, benchNode, checkNode } from './rabbitmq-node.ts'
import { Place, TOPIC } from './rabbitmq-place.ts'
import type { Suite, SuiteContext } from './suite.ts'

/** Only what memory it takes, for the soak. */
export const rabbitmqSoak: Suite = {
  name: 'rabbitmq',
  messages: 10_000_000,
  check: checkNode,
  run: async (context) => {
    const node = await benchNode()
    try {
      return await rabbitmqMemory(node, context)
    } finally {
      await node.remove()
    }
  },
}

/** Publishes and consumes for long in a process of its own. */
export async function rabbitmqMemory(
  { url, version }: BenchNode,
  { messages, progress }: Pick<SuiteContext, 'messages' | 'progress'>,
): Promise<readonly Figure[]> {
  const place = await Place.open(url, topic<Order>(TOPIC), makeOrders(1)[0]!)
  try {
    const { prefix } = place
    const one = { kind: 'steady', through: 'rabbitmq', messages, url, prefix } as const
    const result = await inOwnProcess(one, progress)
    return slopeFigures('rabbitmq', `quorum queue, RabbitMQ ${version}`, result)
  } finally {
    await place.remove()
  }
}
