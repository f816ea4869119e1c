import { sleep, systemClock, topic } from 'holdfast'
import { Partitioners } from 'kafkajs'

import type { Figure } from './figure.ts'
import { startHoldfast } from './kafka-consumers.ts'
import { type Filled, forgetGroup } from './kafka-filled.ts'
import { keyOfOrder } from './kafka-message.ts'
import { PARTITIONS, TOPIC } from './kafka-place.ts'
import { type Contender, interleaved, median, pairedRatio, perSecond } from './measure.ts'
import { makeOrder, type Order } from './payload.ts'
import type { SuiteContext } from './suite.ts'
import { Tally } from './tally.ts'

const SLOW = 0
const SLOW_MS = 100
const AT_LEAST = 0.8
/** A consumer that is slowed is not waited for any longer. */
const LONGEST_MS = 10_000

/** How a consumer is to go about it. */
interface SlowCase {
  readonly ordering: 'key' | 'partition'
  /** Handlers at once. */
  readonly concurrency: number
}

/** By default 16 at once and 512 held: with as many handlers as messages none waits for a handler. */
const cases: readonly SlowCase[] = [
  { ordering: 'key', concurrency: 16 },
  { ordering: 'key', concurrency: 512 },
  { ordering: 'partition', concurrency: 16 },
]

/** What a partition whose handler is slow does to the others. */
export async function slowPartition(
  filled: Filled,
  context: SuiteContext,
): Promise<readonly Figure[]> {
  const figures: Figure[] = []
  for (const one of cases) figures.push(...(await figureOf(filled, one, context)))
  return figures
}

/** The rate of five partitions while a sixth has a slow handler, of the rate of all while none has. */
async function figureOf(
  filled: Filled,
  one: SlowCase,
  { rounds, warmUps, progress }: SuiteContext,
): Promise<readonly Figure[]> {
  const name = `consume by ${one.ordering}, ${one.concurrency} at once, one partition at ${SLOW_MS} ms`
  const isSlow = partitionIs(SLOW)
  const contenders = [
    handling(filled, one, 'the others', isSlow),
    handling(filled, one, 'all, none slow', () => false),
  ]
  const told = (text: string): void => progress(`${name}, ${text}`)
  const [others, all] = await interleaved(contenders, { rounds, warmUps, progress: told })
  if (others === undefined || all === undefined) return []
  const common = { suite: 'kafka', durability: filled.durability }
  return [
    {
      ...common,
      name: `${name}: rate of the others`,
      value: pairedRatio(others, all, perSecond),
      unit: '× all six with none slow',
      target: { atLeast: AT_LEAST },
    },
    ...[others, all].map((of) => ({
      ...common,
      name: `${name}: ${of.name}: rate`,
      value: median(of.samples.map(perSecond)),
      unit: 'msg/s',
    })),
  ]
}

/** Counts what is not slow, until all of that is handled or it has taken too long. */
function handling(
  filled: Filled,
  { ordering, concurrency }: SlowCase,
  name: string,
  isSlow: (order: Order) => boolean,
): Contender {
  const { place, messages, skipped, durability } = filled
  const read = topic<Order>(TOPIC, { key: keyOfOrder, ordering })
  const counted = countOrders(messages, (order) => !isSlow(order))
  return {
    name,
    durability,
    messages: counted - skipped,
    prepare: async () => {
      await forgetGroup(place)
      await place.rest()
      const tally = new Tally(counted, skipped)
      const handler = async (order: Order): Promise<void> => {
        if (isSlow(order)) await sleep(systemClock, SLOW_MS)
        else tally.handle(order)
      }
      const close = await startHoldfast({ ...filled, topic: read }, tally, { handler, concurrency })
      await within(tally.warm)
      const before = tally.handled
      return {
        run: () => within(tally.all),
        moved: () => tally.handled - before,
        close: async () => {
          tally.end()
          await close()
        },
      }
    },
  }
}

function countOrders(messages: number, counts: (order: Order) => boolean): number {
  let count = 0
  for (let number = 0; number < messages; number++) if (counts(makeOrder(number))) count++
  return count
}

async function within(done: Promise<void>): Promise<void> {
  const enough = new AbortController()
  const late = sleep(systemClock, LONGEST_MS, enough.signal).catch(() => undefined)
  try {
    await Promise.race([done, late])
  } finally {
    enough.abort()
  }
}

/** Whether an order's key belongs to that partition, as everybody places keys. */
function partitionIs(partition: number): (order: Order) => boolean {
  const partitionOf = Partitioners.DefaultPartitioner()
  const nobody = { partitionErrorCode: 0, leader: 0, replicas: [], isr: [] }
  const partitionMetadata = Array.from({ length: PARTITIONS }, (_, partitionId) => ({
    ...nobody,
    partitionId,
  }))
  const known = new Map<string, boolean>()
  return (order) => {
    const key = keyOfOrder(order)
    let is = known.get(key)
    if (is === undefined) {
      const message = { key, value: null }
      is = partitionOf({ topic: '', partitionMetadata, message }) === partition
      known.set(key, is)
    }
    return is
  }
}
