import { setTimeout as pause } from 'node:timers/promises'

import type { Figure } from './figure.ts'
import { median } from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import { signal } from './signal.ts'
import { brokerOf, openShop, openTill, type Till } from './sqlite-shop.ts'

const TRANSACTIONS = 500
const EVERY_MS = 10
const DURABLE = 'WAL, synchronous=FULL'

/** What the application's own transactions take, in milliseconds. */
interface Latency {
  readonly p50: number
  readonly p99: number
}

/** How often each is run, on which files, and who is told. */
export interface BesideRelay {
  readonly rounds: number
  readonly file: () => string
  readonly progress: (text: string) => void
}

/**
 * One writer per file: what relay and inbox cost the application beside them. Orders are taken one
 * every 10 ms, each in a transaction of its own, in turn with and without relay and consumer.
 */
export async function besideRelay({
  rounds,
  file,
  progress,
}: BesideRelay): Promise<readonly Figure[]> {
  const alone: Latency[] = []
  const beside: Latency[] = []
  for (let round = 1; round <= rounds; round++) {
    progress(`application beside the relay, round ${round}/${rounds}`)
    alone.push(await withoutRelay(file()))
    beside.push(await withRelay(file()))
  }
  return [...figuresOf('alone', alone), ...figuresOf('beside relay and inbox', beside)]
}

async function withoutRelay(file: string): Promise<Latency> {
  const till = await openTill(file, brokerOf(file, 'two files'))
  try {
    return await paced(till, makeOrders(TRANSACTIONS))
  } finally {
    await till.close()
  }
}

async function withRelay(file: string): Promise<Latency> {
  const charged = signal(TRANSACTIONS)
  const shop = await openShop(file, 'two files', 1, charged.count)
  try {
    const latency = await paced(shop, makeOrders(TRANSACTIONS))
    await charged.reached
    return latency
  } finally {
    await shop.close()
  }
}

/** From when an order was due, so that a wait for the one before counts as well. */
async function paced(till: Till, orders: readonly Order[]): Promise<Latency> {
  const took: number[] = []
  const start = performance.now()
  for (const [at, order] of orders.entries()) {
    const due = start + at * EVERY_MS
    const early = due - performance.now()
    if (early > 0) await pause(early)
    await till.take([order], 1)
    took.push(performance.now() - due)
  }
  took.sort((a, b) => a - b)
  return { p50: quantile(took, 0.5), p99: quantile(took, 0.99) }
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN
}

function figuresOf(where: string, latencies: readonly Latency[]): readonly Figure[] {
  return (['p50', 'p99'] as const).map((name) => ({
    suite: 'sqlite',
    name: `application's transaction, ${where}: ${name}`,
    value: median(latencies.map((latency) => latency[name])),
    unit: 'ms',
    durability: DURABLE,
  }))
}
