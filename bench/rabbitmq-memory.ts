import { topic } from 'holdfast'

import type { Figure } from './figure.ts'
import { inOwnProcess } from './memory-process.ts'
import { makeOrders, type Order } from './payload.ts'
import { type BenchNode, benchNode, checkNode } from './rabbitmq-node.ts'
import { Place, TOPIC } from './rabbitmq-place.ts'
import type { Suite, SuiteContext } from './suite.ts'

/** Resident memory may grow by that much per million messages. */
const SLOPE_TARGET_MIB = 1

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
    if (result.kind !== 'steady') return []
    const count = result.messages.toLocaleString('en-US').replaceAll(',', ' ')
    const name = `${count} published and consumed`
    const common = { suite: 'rabbitmq', durability: `quorum queue, RabbitMQ ${version}` }
    return [
      {
        ...common,
        name: `${name}: RSS slope`,
        value: result.slopeMiB * 10,
        unit: 'MiB/million',
        target: { atMost: SLOPE_TARGET_MIB },
      },
      { ...common, name: `${name}: RSS at the end`, value: result.endMiB, unit: 'MiB' },
      { ...common, name: `${name}: rate`, value: result.perSecond, unit: 'msg/s' },
    ]
  } finally {
    await place.remove()
  }
}
