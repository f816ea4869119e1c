import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { Prepared } from '../../../adapters/sqlite/prepared.ts'
import { type SqliteDatabase, type SqliteTransaction } from '../../../adapters/sqlite/index.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import type { ClaimResult } from '../../../src/contract/store.ts'
import { OpenedFiles } from './opened-files.ts'
import { envelopes, GROUP, rejection, rowsFor, send, take, TOPIC, until, words } from './stage.ts'

const files = new OpenedFiles()

/** How often the connection that writes did this since. */
function count(sql: string): () => number {
  const run = vi.spyOn(Prepared.prototype, 'run')
  return () => run.mock.calls.filter(([text]) => text === sql).length
}

describe('one writer per file', () => {
  let file: string
  let database: SqliteDatabase

  beforeEach(async () => {
    file = files.next()
    database = await files.database(file)
    await database.transaction((tx) => {
      tx.run('CREATE TABLE t (x)')
    })
  })
  afterEach(() => void vi.restoreAllMocks())

  const insert = (tx: SqliteTransaction, x: string | number): void => {
    tx.run('INSERT INTO t (x) VALUES (?)', x)
  }
  const stored = (): Promise<unknown[]> =>
    database.transaction((tx) => tx.all('SELECT x FROM t ORDER BY rowid').map(({ x }) => x))

  it('never mixes transactions whose work waits in between', async () => {
    const work = async (n: number): Promise<void> => {
      await database.transaction(async (tx) => {
        insert(tx, n)
        await new Promise<void>((resolve) => systemClock.defer(resolve))
        if (n % 4 === 3) throw new Error(`number ${n} fails`)
        insert(tx, n)
      })
    }
    const ended = await Promise.allSettled(Array.from({ length: 16 }, (_, n) => work(n)))
    const failed = ended.flatMap(({ status }, n) => (status === 'rejected' ? [n] : []))
    expect(failed).toEqual([3, 7, 11, 15])
    const expected = Array.from({ length: 16 }, (_, n) => n).filter((n) => n % 4 !== 3)
    expect(await stored()).toEqual(expected.flatMap((n) => [n, n]))
  })

  it('begins every write at once, so that no reader turns into a writer too late', async () => {
    const other = files.outside(file)
    await database.transaction((tx) => {
      tx.get('SELECT count(*) FROM t')
      // Would succeed, and make our own write fail, if we had only begun to read.
      expect(() => other.exec("INSERT INTO t VALUES ('theirs')")).toThrow(/locked|busy/i)
      insert(tx, 'ours')
    })
    expect(await stored()).toEqual(['ours'])
  })

  it('commits together what waits together', async () => {
    const commits = count('COMMIT')
    await Promise.all(
      Array.from({ length: 20 }, (_, n) => database.transaction((tx) => insert(tx, n))),
    )
    expect(commits()).toBeLessThan(10)
    expect(await stored()).toHaveLength(20)
  })

  it('lets sends ride on the COMMIT of a transaction', async () => {
    const broker = await files.broker(file)
    const sender = broker.sender('relay')
    const commits = count('COMMIT')
    const sends = await database.transaction(async (tx) => {
      insert(tx, 1)
      return [1, 2, 3].map((n) => send(sender, envelopes([`m${n}`], { key: null })))
    })
    for (const sending of sends) expect(words(await sending)).toEqual(['confirmed'])
    expect(commits()).toBe(1)
  })

  it('claims what it stores in the same COMMIT, and again when that one is rolled back', async () => {
    const broker = await files.broker(file)
    const taker = await take(broker)
    const sender = broker.sender('publish')
    await send(sender, envelopes(['1'], { key: null }))
    await until(() => taker.deliveries.length === 1, 'the first delivery')
    const commits = count('COMMIT')
    await send(sender, envelopes(['2'], { key: null }))
    await until(() => taker.deliveries.length === 2, 'the second delivery')
    expect(commits()).toBe(1)
    // One that SQLite does not take: what ran beside it runs again, without it.
    const [good] = envelopes(['3'], { key: null })
    const [wrong] = envelopes(['4'], { key: null })
    const bad = { ...wrong!, timeMs: Symbol('no time') as unknown as number }
    expect(words(await send(sender, [good!, bad as Envelope]))).toEqual(['confirmed', 'rejected'])
    await until(() => taker.deliveries.length === 3, 'the third delivery')
  })

  it('lets acknowledgements ride on the COMMIT of others, but not for long', async () => {
    const broker = await files.broker(file)
    const taker = await take(broker)
    await send(broker.sender('publish'), envelopes(['1', '2', '3'], { key: null }))
    await until(() => taker.deliveries.length === 3, 'three deliveries')
    const groupDestination = { kind: 'group', topic: TOPIC, group: GROUP, delayMs: 0 } as const
    const commits = count('COMMIT')
    taker.deliveries[0]?.ack()
    taker.deliveries[1]?.ack()
    await database.transaction((tx) => insert(tx, 1))
    expect(commits()).toBe(1)
    expect(await broker.inspect?.depth(groupDestination)).toBe(1)
    taker.deliveries[2]?.ack()
    await until(async () => (await broker.inspect?.depth(groupDestination)) === 0, 'the last one')
  })

  it('takes nobody else in while transactions are slow', async () => {
    const inbox = await files.inbox(file)
    const slow = async (): Promise<readonly 'done'[]> => {
      await new Promise<void>((resolve) => systemClock.after(30, resolve))
      return ['done']
    }
    await inbox.run([{ consumer: 'c', id: '0' }], 'each', slow)
    const order: string[] = []
    const own = database.transaction((tx) => insert(tx, 1)).then(() => order.push('own'))
    const handler = inbox
      .run([{ consumer: 'c', id: '1' }], 'each', async () => {
        order.push('handler begins')
        return slow()
      })
      .then(() => order.push('handler ends'))
    await Promise.all([own, handler])
    expect(order).toEqual(['own', 'handler begins', 'handler ends'])
  })

  it('rolls back only the one that fails of those that share a COMMIT', async () => {
    const inbox = await files.inbox(file)
    const run = (n: number): Promise<readonly ClaimResult[]> =>
      inbox.run([{ consumer: 'c', id: `m${n}` }], 'each', async (tx) => {
        insert(tx, n)
        if (n === 2) throw new Error('this one')
        return [n === 3 ? 'failed' : 'done']
      })
    const ended = await Promise.allSettled([0, 1, 2, 3, 4].map(run))
    expect(ended.map((one) => (one.status === 'fulfilled' ? one.value[0] : 'rejected'))).toEqual([
      'committed',
      'committed',
      'rejected',
      'failed',
      'committed',
    ])
    expect(await stored()).toEqual([0, 1, 4])
  })

  it('blames a deferred constraint on nobody but its transaction', async () => {
    await database.transaction((tx) => {
      tx.run('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
      tx.run(
        'CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)',
      )
    })
    const orphan = (tx: SqliteTransaction): void => void tx.run('INSERT INTO child VALUES (7)')
    const ended = await Promise.allSettled([
      database.transaction((tx) => insert(tx, 'before')),
      database.transaction(orphan),
      database.transaction((tx) => insert(tx, 'after')),
    ])
    expect(ended.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect((ended[1] as PromiseRejectedResult).reason).toMatchObject({
      code: 'storage',
      message: expect.stringMatching(/FOREIGN KEY/i) as string,
    })
    expect(await stored()).toEqual(['before', 'after'])
  })

  it('blames it on nobody else when only one transaction asked for deferral', async () => {
    await database.transaction((tx) => {
      tx.run('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
      tx.run('CREATE TABLE child (parent INTEGER REFERENCES parent (id))')
    })
    const broker = await files.broker(file)
    const sender = broker.sender('relay')
    const sending: Promise<readonly string[]>[] = []
    const ended = await Promise.allSettled([
      database.transaction((tx) => insert(tx, 'before')),
      database.transaction((tx) => {
        tx.run('PRAGMA defer_foreign_keys = ON')
        tx.run('INSERT INTO child VALUES (7)')
        sending.push(send(sender, envelopes(['m'])).then(words))
      }),
      database.transaction((tx) => insert(tx, 'after')),
    ])
    expect(ended.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(await stored()).toEqual(['before', 'after'])
    expect(await sending[0]).toEqual(['confirmed'])
  })

  it('calls it unknown when the disk fails in a COMMIT', async () => {
    const broker = await files.broker(file)
    const sender = broker.sender('publish')
    const run = Prepared.prototype.run
    const failing = vi.spyOn(Prepared.prototype, 'run').mockImplementation(function (
      this: Prepared,
      sql,
      ...params
    ) {
      if (sql !== 'COMMIT') return run.call(this, sql, ...params)
      throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR_FSYNC' })
    })
    const [outcome] = await send(sender, envelopes(['a']))
    expect(outcome).toMatchObject({ status: 'unknown', error: { code: 'commit-unknown' } })
    const inbox = await files.inbox(file).catch((error: { code: string }) => error.code)
    expect(inbox).toBe('commit-unknown')
    expect(await rejection(database.transaction((tx) => insert(tx, 1)))).toMatchObject({
      code: 'commit-unknown',
    })
    failing.mockRestore()
    expect(words(await send(sender, envelopes(['a'])))).toEqual(['confirmed'])
  })

  it('refuses to be committed, begun or rolled back by whoever uses it', async () => {
    for (const sql of ['COMMIT', ' begin immediate', 'END', 'ROLLBACK', 'rollback transaction']) {
      const error = await rejection(database.transaction((tx) => tx.run(sql)))
      expect([sql, error.code]).toEqual([sql, 'own-transaction'])
    }
    await database.transaction((tx) => {
      tx.run('SAVEPOINT mine')
      insert(tx, 'undone')
      tx.run('ROLLBACK TO mine')
      tx.run('RELEASE mine')
      insert(tx, 'kept')
    })
    expect(await stored()).toEqual(['kept'])
  })

  it('is over when its function has ended, also for whoever kept it', async () => {
    let kept: SqliteTransaction | undefined
    await database.transaction((tx) => {
      kept = tx
    })
    expect(() => kept?.run("INSERT INTO t VALUES ('late')")).toThrow(/the transaction is over/)
    expect(await stored()).toEqual([])
  })

  it('does not go on in a transaction that SQLite has given up', async () => {
    const limit = await database.transaction((tx) =>
      Number(tx.get('PRAGMA page_count')?.['page_count']),
    )
    await database.transaction((tx) => tx.get(`PRAGMA max_page_count = ${limit + 1}`))
    const swallowing = database.transaction((tx) => {
      insert(tx, 'first')
      try {
        tx.run('INSERT INTO t VALUES (zeroblob(1000000))')
      } catch {
        // As careless code would.
      }
      expect(() => insert(tx, 'on its own')).toThrow(/no room left/)
    })
    expect((await rejection(swallowing)).code).toBe('storage-full')
    expect(await stored()).toEqual([])
  })

  it('tells the outbox of rows only when they are committed', async () => {
    const outbox = await files.outbox(file, { pollMs: 60_000 })
    const pending: Promise<number>[] = []
    outbox.onAppended(() => {
      pending.push(outbox.stats().then((stats) => stats.pending))
    })
    await rejection(
      database.transaction(async (tx) => {
        await outbox.append(tx, rowsFor(['gone']))
        throw new Error('rolled back')
      }),
    )
    expect(pending).toEqual([])
    await database.transaction((tx) => outbox.append(tx, rowsFor(['kept'])))
    expect(await Promise.all(pending)).toEqual([1])
  })
})
