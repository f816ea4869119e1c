import { type Broker, OutboxRelay, ReliableConsumer, ReliablePublisher, topic } from 'holdfast'
import {
  openDatabase,
  sqlite,
  type SqliteDatabase,
  sqliteInbox,
  sqliteOutbox,
  type SqliteTransaction,
} from 'holdfast/sqlite'

import type { Order } from './payload.ts'

/** Where the broker's tables are: beside those of the shop, or in a file of their own. */
export type Files = 'one file' | 'two files'

/** What takes orders, and leaves their messages in the outbox. */
export interface Till {
  /** `perTransaction` orders and their messages go into each transaction. */
  readonly take: (orders: readonly Order[], perTransaction: number) => Promise<void>
  readonly close: () => Promise<void>
}

const orders = topic<Order>('orders')
const topics = { orders: { groups: ['billing'] } }
const GRACE = { timeoutMs: 10_000 }

/** A running shop, with everything between its orders and its charges; `charged` is called for each charge, once its transaction is over. */
export async function openShop(
  file: string,
  files: Files,
  perTransaction: number,
  charged: () => void,
): Promise<Till> {
  const broker = brokerOf(file, files)
  const till = await openTill(file, broker)
  const relay = new OutboxRelay({ broker, outbox: sqliteOutbox({ file }), topics })
  const consumer = billing(broker, file, perTransaction, charged)
  await relay.start()
  await consumer.start()
  return {
    take: till.take,
    close: async () => {
      await relay.drain(GRACE)
      await consumer.drain(GRACE)
      await till.close()
    },
  }
}

/** Opens `file` for orders and their outbox; nobody relays or charges them. */
export async function openTill(file: string, broker: Broker): Promise<Till> {
  const database = await openDatabase({ file })
  await database.transaction((tx) => createTables(tx))
  const outbox = sqliteOutbox({ file })
  const publisher = new ReliablePublisher({ broker, outbox, topics })
  await publisher.open()
  return {
    take: (taken, size) => takeOrders(database, publisher, taken, size),
    close: async () => {
      await publisher.close(GRACE)
      await database.close()
    },
  }
}

/** The embedded broker that belongs to the shop in `file`. */
export function brokerOf(file: string, files: Files): Broker {
  return sqlite({ file: files === 'one file' ? file : `${file}-broker` })
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
