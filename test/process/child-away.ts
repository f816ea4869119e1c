/** Publishes, relays and consumes on a broker of its own that is taken away for a while. */
import { setTimeout as wait } from 'node:timers/promises'

import { memory } from '../../adapters/memory/broker.ts'
import { openDatabase, type SqliteDatabase } from '../../adapters/sqlite/database.ts'
import { sqliteInbox } from '../../adapters/sqlite/inbox.ts'
import { sqliteOutbox } from '../../adapters/sqlite/outbox.ts'
import type { SqliteTransaction } from '../../adapters/sqlite/transaction.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { childMain, type Duty } from './rig/child-main.ts'
import { GROUP, headersOf, messageId, Orders, TOPIC, type Item } from './rig/goods.ts'
import type { Journal } from './rig/journal.ts'
import { counting, watchMemory } from './rig/metrics.ts'
import { factsOf, publishOne } from './rig/publishing.ts'
import { INSERT_EFFECT, INSERT_ORDER } from './rig/tables.ts'
import { Tap } from './rig/tap.ts'

const KEYS = 20
const TICK_MS = 50
const DEADLINE_MS = 60_000
const LIMIT_MS = 120_000

/** Offers items at a fixed rate, half of them straight to the broker, half through the outbox. */
class Load {
  readonly #duty: Duty<'away'>
  readonly #publisher: ReliablePublisher<SqliteTransaction>
  readonly #database: SqliteDatabase
  readonly #going = new Set<Promise<unknown>>()
  #offered = 0
  #transactions = 0

  constructor(
    duty: Duty<'away'>,
    publisher: ReliablePublisher<SqliteTransaction>,
    database: SqliteDatabase,
  ) {
    this.#duty = duty
    this.#publisher = publisher
    this.#database = database
  }

  async offerFor(ms: number): Promise<void> {
    const { task, journal } = this.#duty
    const each = Math.ceil((task.perSecond * TICK_MS) / 2_000)
    for (const until = performance.now() + ms; performance.now() < until; await wait(TICK_MS)) {
      const first = this.#offered
      this.#offered += each
      const items = Array.from({ length: each }, (_, index) => this.#item('d', first + index))
      for (const item of items) {
        this.#track(publishOne(item, DEADLINE_MS, journal, this.#publisher))
      }
      await this.#enqueue(items.map((item) => ({ ...item, producer: 'o' })))
      const { outstanding } = this.#publisher
      journal.write('lib_metric', 'ok', { name: 'outstanding', value: outstanding })
    }
  }

  async answered(): Promise<void> {
    await Promise.all(this.#going)
  }

  #track(going: Promise<unknown>): void {
    this.#going.add(going)
    void going.finally(() => this.#going.delete(going))
  }

  #item(producer: string, count: number): Item {
    const pad = 'x'.repeat(this.#duty.task.padBytes)
    return { producer, key: `k${count % KEYS}`, n: Math.floor(count / KEYS), pad }
  }

  async #enqueue(items: readonly Item[]): Promise<void> {
    const { journal } = this.#duty
    const tx = `${journal.proc}/${this.#transactions++}`
    for (const item of items) journal.write('enqueue', 'invoke', { ...factsOf(item), tx })
    journal.write('tx_commit', 'invoke', { tx })
    await this.#database.transaction(async (open) => {
      for (const item of items) await this.#store(open, item, tx)
    })
    journal.write('tx_commit', 'ok', { tx })
  }

  async #store(open: SqliteTransaction, item: Item, tx: string): Promise<void> {
    const { producer, key, n } = item
    const id = messageId(item)
    open.run(INSERT_ORDER, id, producer, key, n, this.#duty.journal.proc, tx)
    await this.#publisher.publishIn(open, Orders, item, { id, headers: headersOf(item) })
  }
}

function writeEffect(tx: SqliteTransaction, id: string, tap: Tap, journal: Journal): void {
  const { seq, at } = journal.reserve()
  tx.run(INSERT_EFFECT, id, GROUP, journal.proc, process.pid, seq, at, tap.handling(id))
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (
    const giveUpAt = performance.now() + LIMIT_MS;
    performance.now() < giveUpAt;
    await wait(50)
  ) {
    if (await condition()) return
  }
  throw new Error(`not within ${LIMIT_MS} ms`)
}

async function live(duty: Duty<'away'>): Promise<void> {
  const { task, journal } = duty
  const { app: file } = task.paths
  const stopWatching = watchMemory(journal)
  const on = counting(journal)
  const broker = memory()
  const tap = new Tap(journal)
  const tapped = tap.of(broker)
  const [outbox, inbox] = [sqliteOutbox({ file }), sqliteInbox({ file })]
  const topics = { [TOPIC]: { groups: [GROUP] } }
  const common = { broker: tapped, topics, on, logging: 'silent' } as const
  const buffer = { messages: task.buffer, whenFull: 'fail' } as const
  const publisher = new ReliablePublisher<SqliteTransaction>({ ...common, outbox, buffer })
  const relay = new OutboxRelay({ ...common, outbox, attempts: 1 })
  const consumer = new ReliableConsumer({
    broker: tapped,
    topic: Orders,
    group: GROUP,
    inbox,
    handler: (_item, { id, tx }) => writeEffect(tx, String(id), tap, journal),
    retry: { attempts: 1 },
    on,
    logging: 'silent',
  })
  await publisher.open()
  await Promise.all([relay.start(), consumer.start()])
  const database = await openDatabase({ file })
  const load = new Load(duty, publisher, database)
  await load.offerFor(task.warmUpMs)
  journal.write('fault_start', 'ok', { name: 'broker down' })
  broker.faults.down()
  await load.offerFor(task.awayMs)
  broker.faults.up()
  journal.write('fault_stop', 'ok', { name: 'broker down' })
  await load.offerFor(task.warmUpMs)
  await load.answered()
  const group = { kind: 'group', topic: TOPIC, group: GROUP, delayMs: 0 } as const
  await until(async () => (await outbox.stats()).pending === 0)
  await until(async () => (await broker.inspect.depth(group)) === 0)
  await relay.drain()
  await consumer.drain()
  await publisher.close()
  await Promise.all([outbox.close(), inbox.close(), database.close()])
  stopWatching()
}

await childMain('away', live)
