/** Handles messages until it is told to stop; each effect is a row in the inbox's transaction. */
import { setTimeout as wait } from 'node:timers/promises'

import { ReliableConsumer } from '../../src/consume/consumer.ts'
import type { HandlerContext } from '../../src/consume/context.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { constant } from '../../src/policy/backoff.ts'
import { sqlite } from '../../adapters/sqlite/broker.ts'
import { sqliteInbox } from '../../adapters/sqlite/inbox.ts'
import type { SqliteTransaction } from '../../adapters/sqlite/transaction.ts'
import { asked, childMain, insisting, type Duty } from './rig/child-main.ts'
import { crashing, dieHere } from './rig/crash.ts'
import { FAILING_TRIES, fateOf, GROUP, Orders, type Item } from './rig/goods.ts'
import type { Journal } from './rig/journal.ts'
import { counting, watchMemory } from './rig/metrics.ts'
import { INSERT_EFFECT } from './rig/tables.ts'
import { Tap } from './rig/tap.ts'

const DRAIN_MS = 20_000

type Context = HandlerContext<Item> & { readonly tx: SqliteTransaction }

/** Written before the message may fail, so that an effect which was not taken back would show. */
function writeEffect(tx: SqliteTransaction, id: string, tap: Tap, journal: Journal): void {
  const { seq, at } = journal.reserve()
  const delivery = tap.handling(id)
  tx.run(INSERT_EFFECT, id, GROUP, journal.proc, process.pid, seq, at, delivery)
}

async function consume({ task, journal, stop }: Duty<'consumer'>): Promise<void> {
  const { paths, busyMs, leaseMs, held, fates, handlerMs } = task
  const stopWatching = watchMemory(journal)
  const tap = new Tap(journal)
  const inbox = sqliteInbox({ file: paths.app, busyMs })
  const count = counting(journal)
  const handler = async (_item: Item, { id, tx, attempt }: Context): Promise<void> => {
    writeEffect(tx, String(id), tap, journal)
    if (handlerMs > 0) await wait(handlerMs)
    const fate = fateOf(fates, String(id))
    if (fate === 'killer') dieHere(journal, 'killer')
    if (fate === 'permanent') throw new PermanentError('it can never work')
    if (fate === 'transient' && attempt <= FAILING_TRIES) throw new Error('not this time')
  }
  const consumer = new ReliableConsumer({
    broker: tap.of(sqlite({ file: paths.broker, busyMs, leaseMs })),
    topic: Orders,
    group: GROUP,
    inbox,
    handler,
    concurrency: task.concurrency,
    prefetch: { messages: held },
    transactionSize: task.transactionSize,
    retry: { attempts: task.attempts, backoff: constant(20) },
    logging: 'silent',
    on: (event) => {
      count(event)
      if (event.type === 'message.dead') tap.dying(event.at)
    },
    crash: crashing(task.crash, journal),
  })
  await insisting(() => consumer.start(), { stop, journal })
  await asked(stop)
  await consumer.drain({ timeoutMs: DRAIN_MS })
  await inbox.close()
  stopWatching()
}

await childMain('consumer', consume)
