import { topic } from 'holdfast'

import type { Figure } from './figure.ts'
import { keyOfOrder } from './kafka-message.ts'
import { type BenchKafka, benchKafka, checkKafka } from './kafka-node.ts'
import { PARTITIONS, Place, TOPIC } from './kafka-place.ts'
import { slopeFigures } from './memory-figures.ts'
import { inOwnProcess } from './memory-process.ts'
import { makeOrder, type Order } from './payload.ts'
import type { Suite, SuiteContext } from './suite.ts'

/**
 * What was consumed need not stay. Of each partition the broker keeps more than a portion of the
 * messages takes, so that nothing is deleted before it was read.
 */
const LITTLE_DISK = {
  'segment.bytes': String(16 * 2 ** 20),
  'retention.bytes': String(64 * 2 ** 20),
  'file.delete.delay.ms': '1000',
}

/** Only what memory it takes, for the soak. */
export const kafkaSoak: Suite = {
  name: 'kafka',
  messages: 10_000_000,
  check: checkKafka,
  run: async (context) => {
    const node = await benchKafka()
    try {
      return await kafkaMemory(node, context)
    } finally {
      await node.remove()
    }
  },
}

/** Publishes and consumes for long in a process of its own, with a key of ten thousand for each message. */
export async function kafkaMemory(
  { brokers, name }: BenchKafka,
  { messages, progress }: Pick<SuiteContext, 'messages' | 'progress'>,
): Promise<readonly Figure[]> {
  const keyed = topic<Order>(TOPIC, { key: keyOfOrder })
  const place = await Place.open(brokers, keyed, makeOrder(0), LITTLE_DISK)
  try {
    const { prefix } = place
    const one = { kind: 'steady', through: 'kafka', messages, brokers, prefix } as const
    const result = await inOwnProcess(one, progress)
    return slopeFigures('kafka', `acks=all, ${PARTITIONS} partitions, ${name}`, result)
  } finally {
    await place.remove()
  }
}
