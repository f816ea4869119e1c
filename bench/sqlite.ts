import { join } from 'node:path'

import { ReliablePublisher, topic } from 'holdfast'
import { sqlite as sqliteBroker } from 'holdfast/sqlite'

import { type BareRow, bareInserts } from './bare-sqlite.ts'
import type { Figure } from './figure.ts'
import {
  type Contender,
  cpuPerMessage,
  interleaved,
  type Measured,
  median,
  pairedRatio,
  perSecond,
} from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import { besideRelay } from './sqlite-beside-relay.ts'
import { endToEnd } from './sqlite-end-to-end.ts'
import type { Suite } from './suite.ts'

const DURABLE = 'WAL, synchronous=FULL'
const BATCHED = 50_000
const SINGLE = 2_000
const HUNDREDS = 20_000

const orders = topic<Order>('orders')

/** The embedded broker, outbox and inbox against the bare driver on the same disk. */
export const sqlite: Suite = {
  name: 'sqlite',
  run: async ({ rounds, warmUps, directory, progress }) => {
    const file = fileNames(directory)
    const batched = await interleaved(
      [bareInserts(bareRows(BATCHED), 500, file), batchPublishing(BATCHED, 500, file)],
      { rounds, warmUps, progress: (text) => progress(`batches, ${text}`) },
    )
    const endToEnds = await interleaved(
      [
        bareInserts(bareRows(SINGLE), 1, file),
        endToEnd(SINGLE, 1, 'two files', file),
        endToEnd(SINGLE, 1, 'one file', file),
        endToEnd(HUNDREDS, 100, 'two files', file),
        endToEnd(HUNDREDS, 100, 'one file', file),
      ],
      { rounds, warmUps, progress: (text) => progress(`end to end, ${text}`) },
    )
    const latencies = await besideRelay({ rounds, file, progress })
    return [...figuresOf(batched), ...figuresOf(endToEnds), ...latencies]
  },
}

/** A new file for each run, so that none pays for the rows of another. */
function fileNames(directory: string): () => string {
  let count = 0
  return () => join(directory, `${++count}.db`)
}

function bareRows(count: number): readonly BareRow[] {
  return makeOrders(count).map((order, at) => ({
    id: `00000000-0000-7000-8000-${String(at).padStart(12, '0')}`,
    body: Buffer.from(JSON.stringify(order)),
  }))
}

function batchPublishing(messages: number, size: number, file: () => string): Contender {
  const payloads = makeOrders(messages)
  return {
    name: `publishBatch of ${size}`,
    durability: DURABLE,
    messages,
    prepare: async () => {
      const broker = sqliteBroker({ file: file() })
      const topics = { orders: { groups: ['billing'] } }
      const publisher = new ReliablePublisher({ broker, topics })
      await publisher.open()
      return {
        run: async () => {
          for (let from = 0; from < messages; from += size) {
            await publishOne(publisher, payloads.slice(from, from + size))
          }
        },
        close: () => publisher.close({ timeoutMs: 10_000 }),
      }
    },
  }
}

async function publishOne<Tx>(
  publisher: ReliablePublisher<Tx>,
  payloads: readonly Order[],
): Promise<void> {
  const outcomes = await publisher.publishBatch(orders, payloads)
  const bad = outcomes.find(({ status }) => status !== 'confirmed')
  if (bad !== undefined) throw new Error(`a publish ended ${bad.status}`, { cause: bad })
}

interface Targets {
  readonly rate?: number
  readonly ratio?: number
}

const targets: Readonly<Record<string, Targets>> = {
  'publishBatch of 500': { rate: 60_000, ratio: 0.25 },
  'end to end by 1, one file': { ratio: 0.3 },
  'end to end by 1, two files': { ratio: 0.3 },
  'end to end by 100, one file': { rate: 10_000 },
  'end to end by 100, two files': { rate: 10_000 },
}

function figuresOf([bare, ...others]: readonly Measured[]): readonly Figure[] {
  if (bare === undefined) return []
  return [...absolutes(bare), ...others.flatMap((one) => [ratioOf(one, bare), ...absolutes(one)])]
}

function ratioOf(one: Measured, bare: Measured): Figure {
  const ratio = targets[one.name]?.ratio
  return {
    suite: 'sqlite',
    name: `${one.name}: rate`,
    value: pairedRatio(one, bare, perSecond),
    unit: `× ${bare.name}`,
    durability: one.durability,
    ...(ratio === undefined ? {} : { target: { atLeast: ratio } }),
  }
}

function absolutes({ name, durability, samples }: Measured): readonly Figure[] {
  const rate = targets[name]?.rate
  return [
    {
      suite: 'sqlite',
      name: `${name}: rate`,
      value: median(samples.map(perSecond)),
      unit: 'msg/s',
      durability,
      ...(rate === undefined ? {} : { target: { atLeast: rate } }),
    },
    {
      suite: 'sqlite',
      name: `${name}: CPU`,
      value: median(samples.map(cpuPerMessage)),
      unit: 'µs/msg',
      durability,
    },
  ]
}
