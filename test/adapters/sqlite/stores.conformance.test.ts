import { afterAll, describe, it } from 'vitest'

import type { Driver } from '../../../adapters/sqlite/driver.ts'
import {
  openDatabase,
  sqliteInbox,
  sqliteOutbox,
  type SqliteTransaction,
} from '../../../adapters/sqlite/index.ts'
import {
  inboxCases,
  inParallel,
  outboxCases,
  registerCases,
  type InboxHarness,
  type OutboxHarness,
} from '../../conformance/index.ts'
import { availableDrivers, scratch } from './scratch.ts'

const folder = scratch()
afterAll(() => folder.remove())

let files = 0
const nextFile = (): string => folder.file(`store-${files++}.db`)

const outbox = (driver: Driver, name: string): OutboxHarness<SqliteTransaction> => ({
  name: `${name} with ${driver.name}`,
  nudgesOnCommit: true,
  patience: 3,
  make: async () => {
    const file = nextFile()
    const database = await openDatabase({ file, driver: driver.name })
    const connection = driver.connect(file)
    return {
      store: () => sqliteOutbox({ file, driver: driver.name }),
      transaction: (work) => database.transaction(work),
      notTransactions: [
        ['the database', database],
        ['nothing', undefined],
        ['a plain object', {}],
        ['a connection without BEGIN', connection],
      ],
      close: async () => {
        connection.close()
        await database.close()
      },
    }
  },
})

const inbox = (driver: Driver, name: string): InboxHarness<SqliteTransaction> => ({
  name: `${name} with ${driver.name}`,
  patience: 3,
  make: async () => {
    const file = nextFile()
    const database = await openDatabase({ file, driver: driver.name })
    await database.transaction((tx) => tx.run('CREATE TABLE effects (line TEXT NOT NULL)'))
    return {
      store: () => sqliteInbox({ file, driver: driver.name }),
      effect: async (tx, text) => void tx.run('INSERT INTO effects (line) VALUES (?)', text),
      effects: () =>
        database.transaction((tx) =>
          tx.all('SELECT line FROM effects').map(({ line }) => line as string),
        ),
      close: () => database.close(),
    }
  },
})

const runner = { describe, it }

for (const driver of await availableDrivers()) {
  await registerCases(outboxCases, runner, () => outbox(driver, 'sqlite outbox') as OutboxHarness)
  await registerCases(inboxCases, runner, () => inbox(driver, 'sqlite inbox') as InboxHarness)
  await registerCases(
    inParallel(outboxCases, 20),
    runner,
    () => outbox(driver, 'sqlite outbox, 20 at once') as OutboxHarness,
  )
  await registerCases(
    inParallel(inboxCases, 20),
    runner,
    () => inbox(driver, 'sqlite inbox, 20 at once') as InboxHarness,
  )
}
