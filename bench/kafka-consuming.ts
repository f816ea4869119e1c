import { topic } from 'holdfast'

import type { Figure } from './figure.ts'
import { adapterAlone } from './kafka-adapter-alone.ts'
import { eachBatchByHand, eachBatchForNothing, holdfastReading } from './kafka-consumers.ts'
import { type Comparison, figuresOf } from './kafka-figures.ts'
import { fill, type Filled } from './kafka-filled.ts'
import { keyOfOrder } from './kafka-message.ts'
import type { BenchKafka } from './kafka-node.ts'
import { PARTITIONS, Place, TOPIC } from './kafka-place.ts'
import { hasPlatformatic, readingThroughPlatformatic } from './kafka-platformatic.ts'
import { slowPartition } from './kafka-slow-partition.ts'
import { cpuPerMessage, interleaved, type Measured, median } from './measure.ts'
import { makeOrder, type Order } from './payload.ts'
import type { SuiteContext } from './suite.ts'

const MESSAGES = 330_000
/** The first ones, which are not counted. */
const SKIPPED = 30_000
/** CPU that the core may take for a message whose handler is synchronous. */
const CORE_MICROS = 2

/** Everybody reads the same filled topic, each in turn from its beginning. */
export async function consuming(
  node: BenchKafka,
  context: SuiteContext,
  messages: number = MESSAGES,
  skipped: number = SKIPPED,
): Promise<readonly Figure[]> {
  const keyed = topic<Order>(TOPIC, { key: keyOfOrder })
  const place = await Place.open(node.brokers, keyed, makeOrder(0))
  try {
    await fill(place, messages)
    const durability = `${PARTITIONS} partitions, offsets committed, ${node.name}`
    const filled: Filled = { place, topic: keyed, messages, skipped, durability }
    const figures: Figure[] = []
    for (const comparison of comparisonsOf(filled)) {
      const measured = await measuredOf(comparison, context)
      figures.push(...figuresOf(comparison, measured), ...coreOf(comparison.name, measured))
    }
    figures.push(...(await slowPartition(filled, context)))
    return figures
  } finally {
    await place.remove()
  }
}

function comparisonsOf(filled: Filled): readonly Comparison[] {
  const comparisons: Comparison[] = [
    {
      name: 'consume by key, async handler',
      holdfast: holdfastReading(filled, 'async'),
      others: [{ contender: eachBatchByHand(filled, 'async'), rate: 0.8 }],
    },
    {
      name: 'consume by key, sync handler',
      holdfast: holdfastReading(filled, 'sync'),
      others: [
        { contender: adapterAlone(filled), rate: null },
        { contender: eachBatchByHand(filled, 'sync'), rate: null },
        { contender: eachBatchForNothing(filled), rate: null },
      ],
    },
  ]
  if (hasPlatformatic) comparisons.push(readingThroughPlatformatic(filled))
  return comparisons
}

async function measuredOf(
  { name, holdfast, others }: Comparison,
  { rounds, warmUps, progress }: SuiteContext,
): Promise<readonly Measured[]> {
  const contenders = [holdfast, ...others.map(({ contender }) => contender)]
  const told = (text: string): void => progress(`${name}, ${text}`)
  return interleaved(contenders, { rounds, warmUps, progress: told })
}

/** What holdfast takes beyond its adapter, where that was measured beside it. */
function coreOf(name: string, [holdfast, alone]: readonly Measured[]): readonly Figure[] {
  if (holdfast === undefined || alone?.name !== 'its adapter alone') return []
  const micros = holdfast.samples.flatMap((sample, round) => {
    const other = alone.samples[round]
    return other === undefined ? [] : [cpuPerMessage(sample) - cpuPerMessage(other)]
  })
  return [
    {
      suite: 'kafka',
      name: `${name}: holdfast less its adapter: CPU of the core`,
      value: median(micros),
      unit: 'µs/msg',
      durability: holdfast.durability,
      target: { atMost: CORE_MICROS },
    },
  ]
}
