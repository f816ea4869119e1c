import { type Broker, OutboxRelay, ReliableConsumer, ReliablePublisher, topic } from 'holdfast'
import {
  openDatabase,
  sqlite,
  type SqliteDatabase,
  sqliteInbox,
  sqliteOutbox,
  type SqliteTransaction,
} from 'holdfast/sqlite'

import type { Contender, Prepared } from './measure.ts'
import { makeOrders, type Order } from './payload.ts'
import { type CountSignal, signal } from './signal.ts'

/** Where the broker's tables are: beside those of the shop, or in a file of their own. */
export type Files = 'one file' | 'two files'

/** A running shop: everything a business needs around its order and its charge. */
export interface Shop {
  /** Takes orders, `perTransaction` of them and their messages in each transaction. */
  readonly take: (orders: readonly Order[], perTransaction: number) => Promise<void>
  readonly close: () => Promise<void>
}

const orders = topic<Order>('orders')
const topics = { orders: { groups: ['billing'] } }
const GRACE = { timeoutMs: 10_000 }

/**
 * From an order's transaction over outbox, relay, broker and inbox to the committed charge;
 * `perTransaction` orders are written, and as many charges made, in each transaction.
 */
export function endToEnd(
  messages: number,
  perTransaction: number,
  files: Files,
  file: () => string,
): Contender {
  const payloads = makeOrders(messages)
  return {
    name: `end to end by ${perTransaction}, ${files}`,
    durability: 'WAL, synchronous=FULL',
    messages,
    prepare: async (): Promise<Prepared> => {
      const charged = signal(messages)
      const shop = await openShop(file(), files, perTransaction, charged.count)
      return { run: () => runShop(shop, payloads, perTransaction, charged), close: shop.close }
    },
  }
}

async function runShop(
  shop: Shop,
  payloads: readonly Order[],
  perTransaction: number,
  charged: CountSignal,
): Promise<void> {
  await shop.take(payloads, perTransaction)
  await charged.reached
}

/** Opens the shop in `file`; `charged` is called for each charge, once its transaction is over. */
export async function openShop(
  file: string,
  files: Files,
  perTransaction: number,
  charged: () => void,
): Promise<Shop> {
  const database = await openDatabase({ file })
  await database.transaction((tx) => createTables(tx))
  const broker = sqlite({ file: files === 'one file' ? file : `${file}-broker` })
  const outbox = sqliteOutbox({ file })
  const publisher = new ReliablePublisher({ broker, outbox, topics })
  const relay = new OutboxRelay({ broker, outbox, topics })
  const consumer = billing(broker, file, perTransaction, charged)
  await publisher.open()
  await relay.start()
  await consumer.start()
  return {
    take: (taken, size) => takeOrders(database, publisher, taken, size),
    close: async () => {
      await relay.drain(GRACE)
      await consumer.drain(GRACE)
      await publisher.close(GRACE)
      await database.close()
    },
  }
}

function createTables(tx: SqliteTransaction): void {
  tx.run(
    'CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL)',
  )
  tx.run('CREATE TABLE charges (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, cents INTEGER NOT NULL)')
}

function billing(
  broker: Broker,
  file: string,
  perTransaction: number,
  charged: () => void,
): ReliableConsumer<typeof orders, SqliteTransaction> {
  const common = { broker, topic: orders, group: 'billing', topics, inbox: sqliteInbox({ file }) }
  if (perTransaction === 1) {
    return new ReliableConsumer({
      ...common,
      transactionSize: 1,
      handler: (order, { tx }) => {
        charge(tx, order)
        charged()
      },
    })
  }
  return new ReliableConsumer({
    ...common,
    batch: { maxMessages: perTransaction, maxWaitMs: 5 },
    handler: (messages, { tx }) => {
      for (const { payload } of messages) charge(tx, payload)
      for (const _ of messages) charged()
    },
  })
}

function charge(tx: SqliteTransaction, { order, cents }: Order): void {
  tx.run('INSERT INTO charges (id, cents) VALUES (?, ?)', order, cents)
}

async function takeOrders(
  database: SqliteDatabase,
  publisher: ReliablePublisher<SqliteTransaction>,
  taken: readonly Order[],
  perTransaction: number,
): Promise<void> {
  for (let from = 0; from < taken.length; from += perTransaction) {
    const some = taken.slice(from, from + perTransaction)
    await database.transaction(async (tx) => {
      for (const { order, customer, cents } of some) {
        tx.run('INSERT INTO orders VALUES (?, ?, ?)', order, customer, cents)
      }
      await (some.length === 1
        ? publisher.publishIn(tx, orders, some[0]!)
        : publisher.publishBatchIn(tx, orders, some))
    })
  }
}
