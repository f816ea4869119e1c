/** Writes its items, resuming where the database says it stopped, and ends; earlier when it is told to. */
import { setTimeout as wait } from 'node:timers/promises'

import { isHoldfastError } from '../../src/contract/errors.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { sqlite } from '../../adapters/sqlite/broker.ts'
import { openDatabase, type SqliteDatabase } from '../../adapters/sqlite/database.ts'
import { sqliteOutbox } from '../../adapters/sqlite/outbox.ts'
import type { SqliteTransaction } from '../../adapters/sqlite/transaction.ts'
import { childMain, type Duty } from './rig/child-main.ts'
import { crashing } from './rig/crash.ts'
import { GROUP, headersOf, messageId, Orders, TOPIC, type Item } from './rig/goods.ts'
import type { Journal } from './rig/journal.ts'
import { factsOf, publishOne } from './rig/publishing.ts'
import { INSERT_ORDER, LAST_ORDERS } from './rig/tables.ts'
import type { WriterTask } from './rig/task.ts'

type Publisher = ReliablePublisher<SqliteTransaction>

const CLOSE_MS = 20_000

function itemOf(task: WriterTask, producer: string, key: string, n: number): Item {
  const isLarge = task.oversize.includes(`${producer}-${key}-${n}`)
  return { producer, key, n, pad: 'x'.repeat(isLarge ? task.oversizeBytes : task.padBytes) }
}

/** All items that are not in the database yet, keys in turn. */
async function missing(task: WriterTask, database: SqliteDatabase): Promise<Item[]> {
  const { producer, keys, each } = task
  const rows = await database.transaction((tx) => tx.all(LAST_ORDERS, producer))
  const last = new Map(rows.map((row) => [row['item_key'], Number(row['n'])]))
  const items: Item[] = []
  for (let n = 0; n < each; n++) {
    for (const key of keys) {
      if (n > (last.get(key) ?? -1)) items.push(itemOf(task, producer, key, n))
    }
  }
  return items
}

/** Orders and messages in transactions. */
class Enqueuer {
  readonly #task: WriterTask
  readonly #journal: Journal
  readonly #database: SqliteDatabase
  readonly #publisher: Publisher
  readonly #stop: AbortSignal
  #transactions = 0

  constructor(
    { task, journal, stop }: Duty<'writer'>,
    database: SqliteDatabase,
    publisher: Publisher,
  ) {
    this.#stop = stop
    this.#task = task
    this.#journal = journal
    this.#database = database
    this.#publisher = publisher
  }

  async run(items: readonly Item[]): Promise<void> {
    const { perTransaction, pauseMs, rollBackEvery } = this.#task
    for (let from = 0; from < items.length && !this.#stop.aborted; from += perTransaction) {
      await this.#insist(items.slice(from, from + perTransaction))
      if (rollBackEvery > 0 && this.#transactions % rollBackEvery === 0) await this.#rollBack()
      if (pauseMs > 0) await wait(pauseMs)
    }
  }

  /** A lock of somebody else costs time, never an order. */
  async #insist(items: readonly Item[]): Promise<void> {
    while (!(await this.#transaction(items, () => undefined)));
  }

  /** Messages of a producer of their own: nobody may ever see them. */
  async #rollBack(): Promise<void> {
    const item = itemOf(this.#task, `${this.#journal.proc}x`, 'gone', this.#transactions)
    const giveUp = (): never => {
      throw new Error('rolled back on purpose')
    }
    await this.#transaction([item], giveUp)
  }

  /** True when it is committed, false when it certainly is not. */
  async #transaction(items: readonly Item[], last: () => void): Promise<boolean> {
    const journal = this.#journal
    const tx = `${journal.proc}/${this.#transactions++}`
    for (const item of items) journal.write('enqueue', 'invoke', { ...factsOf(item), tx })
    journal.write('tx_commit', 'invoke', { tx })
    try {
      await this.#database.transaction(async (open) => {
        for (const item of items) await this.#store(open, item, tx)
        last()
      })
    } catch (error) {
      const code = isHoldfastError(error) ? error.code : (error as Error).message
      const isUnknown = code === 'commit-unknown'
      journal.write(isUnknown ? 'tx_commit' : 'tx_rollback', isUnknown ? 'info' : 'ok', {
        tx,
        errClass: code,
      })
      if (code === 'storage-busy' || code === 'rolled back on purpose') return false
      throw error
    }
    journal.write('tx_commit', 'ok', { tx })
    return true
  }

  async #store(open: SqliteTransaction, item: Item, tx: string): Promise<void> {
    const { producer, key, n } = item
    const id = messageId(item)
    open.run(INSERT_ORDER, id, producer, key, n, this.#journal.proc, tx)
    await this.#publisher.publishIn(open, Orders, item, { id, headers: headersOf(item) })
  }
}

/** Straight to the broker, each key's next item after the confirm of the one before. */
async function publishAll(
  { task, journal, stop }: Duty<'writer'>,
  publisher: Publisher,
): Promise<void> {
  const { keys, each, producer, pauseMs, deadlineMs } = task
  const publishKey = async (key: string): Promise<void> => {
    for (let n = 0; n < each && !stop.aborted; n++) {
      const item = itemOf(task, producer, key, n)
      while (!(await publishOne(item, deadlineMs, journal, publisher)));
      if (pauseMs > 0) await wait(pauseMs)
    }
  }
  await Promise.all(keys.map(publishKey))
}

async function write(duty: Duty<'writer'>): Promise<void> {
  const { task, journal } = duty
  const { paths, busyMs, via } = task
  const crash = crashing(task.crash, journal)
  const outbox = sqliteOutbox({ file: paths.app, busyMs })
  const publisher: Publisher = new ReliablePublisher<SqliteTransaction>({
    broker: sqlite({ file: paths.broker, busyMs }),
    outbox,
    topics: { [TOPIC]: { groups: [GROUP] } },
    logging: 'silent',
    crash,
  })
  if (via === 'broker') await publishAll(duty, publisher)
  else {
    // Its tables cannot be made inside a transaction on their file.
    await opened(() => publisher.open())
    const database = await opened(() => openDatabase({ file: paths.app, busyMs, crash }))
    await new Enqueuer(duty, database, publisher).run(await opened(() => missing(task, database)))
    await database.close()
  }
  await publisher.close({ timeoutMs: CLOSE_MS })
  await outbox.close()
}

/** Begins although somebody has the file locked at the moment. */
async function opened<T>(open: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await open()
    } catch (error) {
      if (!isHoldfastError(error) || error.code !== 'storage-busy') throw error
    }
  }
}

await childMain('writer', write)
