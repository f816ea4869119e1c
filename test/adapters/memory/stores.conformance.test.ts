import { describe, it } from 'vitest'

import {
  memoryDatabase,
  memoryInbox,
  memoryOutbox,
  type MemoryDatabase,
  type MemoryTransaction,
} from '../../../adapters/memory/index.ts'
import {
  inboxCases,
  inParallel,
  outboxCases,
  registerCases,
  type InboxHarness,
  type OutboxHarness,
} from '../../conformance/index.ts'

const outbox = (name: string, patience = 1): OutboxHarness<MemoryTransaction> => ({
  name,
  patience,
  concurrentTransactions: true,
  nudgesOnCommit: true,
  make: async () => {
    const database = memoryDatabase()
    return {
      store: () => memoryOutbox({ database }),
      transaction: (work) => database.transaction(work),
      begin: async () => open(database),
      notTransactions: [
        ['the database', database],
        ['nothing', undefined],
        ['a plain object', {}],
      ],
      close: () => database.close(),
    }
  },
})

function open(database: MemoryDatabase) {
  const tx = database.begin()
  return { tx, commit: () => tx.commit(), rollback: () => tx.rollback() }
}

const inbox = (
  name: string,
  lockWaitMs: number,
  patience = 1,
): InboxHarness<MemoryTransaction> => ({
  name,
  patience,
  losesCommits: true,
  make: async () => {
    const database = memoryDatabase({ lockWaitMs })
    return {
      store: () => memoryInbox({ database }),
      effect: async (tx, text) => void tx.add('effects', text),
      effects: async () => database.rows('effects').map(([, text]) => text as string),
      loseCommit: (_, really) => database.faults.loseCommits(really),
      close: () => database.close(),
    }
  },
})

const runner = { describe, it }

await registerCases(outboxCases, runner, () => outbox('memory outbox') as OutboxHarness)
await registerCases(
  inParallel(outboxCases, 20),
  runner,
  () => outbox('memory outbox, 20 at once', 4) as OutboxHarness,
)
await registerCases(inboxCases, runner, () => inbox('memory inbox', 1_000) as InboxHarness)
await registerCases(
  inboxCases,
  runner,
  () => inbox('memory inbox that never waits', 0) as InboxHarness,
)
await registerCases(
  inParallel(inboxCases, 20),
  runner,
  () => inbox('memory inbox, 20 at once', 1_000, 4) as InboxHarness,
)
