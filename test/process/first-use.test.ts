import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'vitest'

import { sqlite } from '../../adapters/sqlite/broker.ts'
import { openDatabase } from '../../adapters/sqlite/database.ts'
import { sqliteInbox } from '../../adapters/sqlite/inbox.ts'
import { sqliteOutbox } from '../../adapters/sqlite/outbox.ts'
import type { SqliteTransaction } from '../../adapters/sqlite/transaction.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { connect, newFolder, removeFolder } from './rig/files.ts'
import { GROUP, Orders, TOPIC } from './rig/goods.ts'

const item = { producer: 'p', key: 'k', n: 0, pad: '' }

describe('the first use of a new file', () => {
  let files: ReturnType<typeof newFolder>

  beforeEach(() => {
    files = newFolder('one file')
  })
  afterEach(() => removeFolder(files.folder))

  function newPublisher(): ReliablePublisher<SqliteTransaction> {
    return new ReliablePublisher<SqliteTransaction>({
      broker: sqlite({ file: files.broker }),
      outbox: sqliteOutbox({ file: files.app }),
      topics: { [TOPIC]: { groups: [GROUP] } },
      logging: 'silent',
    })
  }

  it('says at once that the outbox cannot be made inside a transaction on its file', async () => {
    const database = await openDatabase({ file: files.app })
    const publisher = newPublisher()
    const publishFirst = (): Promise<unknown> =>
      database.transaction((tx) => publisher.publishIn(tx, Orders, item))
    const startedAt = performance.now()
    await assert.rejects(publishFirst(), { code: 'own-transaction', message: /publisher\.open/ })
    assert.ok(performance.now() - startedAt < 3_000, 'it waited for itself')
    await publisher.open()
    await publishFirst()
    await publisher.close()
    await database.close()
  })

  it('lets a consumer start again whose start failed for a lock', async () => {
    const other = await connect(files.app)
    other.exec('PRAGMA journal_mode = WAL')
    other.exec('BEGIN IMMEDIATE')
    const consumer = new ReliableConsumer({
      broker: sqlite({ file: files.broker }),
      topic: Orders,
      group: GROUP,
      inbox: sqliteInbox({ file: files.app, busyMs: 100 }),
      handler: () => undefined,
      logging: 'silent',
    })
    await assert.rejects(consumer.start({ timeoutMs: 500 }), /locked|500 ms/)
    other.exec('COMMIT')
    other.close()
    await consumer.start()
    assert.equal(consumer.state, 'running')
    await consumer.drain()
  })
})
