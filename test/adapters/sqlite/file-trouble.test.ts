import { existsSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, expect, it, vi } from 'vitest'

import type { Connection, Driver, Statement } from '../../../adapters/sqlite/driver.ts'
import { SqliteFile } from '../../../adapters/sqlite/file.ts'
import { openDatabase, sqlite, sqliteInbox, sqliteOutbox } from '../../../adapters/sqlite/index.ts'
import type { BrokerState } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { StorageError } from '../../../src/contract/errors.ts'
import { anyDriver, OpenedFiles } from './opened-files.ts'
import {
  context,
  envelopes,
  group,
  rejection,
  rowsFor,
  send,
  soon,
  take,
  until,
  words,
} from './stage.ts'

const files = new OpenedFiles()

describe('a database file', () => {
  it('is in WAL mode with synchronous = FULL, read back by the audit', async () => {
    const broker = await files.broker(files.next())
    expect(await broker.audit({ topics: [] })).toEqual([])
    const weak = vi.spyOn(SqliteFile.prototype, 'durability')
    weak.mockReturnValue({ journalMode: 'delete', synchronous: 1 })
    const found = await broker.audit({ topics: [] })
    weak.mockRestore()
    expect(found.map(({ severity, code }) => [severity, code])).toEqual([
      ['error', 'sqlite.journal-mode'],
      ['error', 'sqlite.synchronous'],
    ])
  })

  it.each([
    ['synchronous', 'PRAGMA synchronous', 1],
    ['journal_mode', 'PRAGMA journal_mode', 'delete'],
  ])('is refused when %s does not read back as set', (name, asked, answer) => {
    const lying: Driver = {
      name: anyDriver.name,
      connect: (file) => liar(file, name, asked, answer),
    }
    const parts = { clock: systemClock, random: systemRandom }
    const open = (): unknown => SqliteFile.open({ path: files.next(), driver: lying, ...parts })
    expect(open).toThrow(StorageError)
    expect(open).toThrow(new RegExp(`power loss.*${name} is ${answer}`))
  })

  it('is one file, with one writer, however its path is spelt', async () => {
    const file = files.next()
    const first = await files.database(file)
    const link = files.next()
    symlinkSync(file, link)
    const second = await files.database(link)
    expect(second.file).toBe(first.file)
    const nested = first.transaction(() => second.transaction(() => 1))
    expect((await rejection(nested)).code).toBe('own-transaction')
  })

  it('refuses what is no path of a file', async () => {
    for (const file of [':memory:', 'file:x?mode=memory', '', 7, undefined]) {
      expect(() => sqlite({ file: file as string })).toThrow(/^file: got .*path of a file/)
    }
  })

  it('refuses options it does not know, and values out of range, by name', () => {
    const file = files.next()
    expect(() => sqlite({ file, leaseMS: 5 } as never)).toThrow(/sqlite\.leaseMS/)
    expect(() => sqlite({ file, leaseMs: 10 })).toThrow(/leaseMs: got 10; allowed: .*500/)
    expect(() => sqlite({ file, driver: 'libsql' as never })).toThrow(/driver: got "libsql"/)
    expect(() => sqliteOutbox({ file, buckets: 0 })).toThrow(/buckets: got 0/)
    expect(() => sqliteInbox({ file, maxTransactionMs: -1 })).toThrow(/maxTransactionMs: got -1/)
    expect(existsSync(file)).toBe(false)
  })

  it('says when its folder does not exist', async () => {
    const error = await rejection(openDatabase({ file: files.path('nowhere/a.db') }))
    expect(error.code).toBe('storage')
    expect(error.message).toMatch(/nowhere\/a\.db cannot be opened: its folder has to exist/)
  })

  it('says when it is not a database', async () => {
    const file = files.next()
    writeFileSync(file, 'This is a text, long enough to be no SQLite header. '.repeat(40))
    for (const open of [
      () => openDatabase({ file }),
      () => sqlite({ file }).open(context()),
      () => sqliteOutbox({ file }).open(context()),
      () => sqliteInbox({ file }).open(context()),
    ]) {
      const error = await rejection(open())
      expect(error.code).toBe('storage-corrupt')
      expect(error.message).toMatch(/integrity_check/)
    }
  })

  it('says when it is damaged, to whoever sends', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const sender = broker.sender('publish')
    await send(sender, envelopes(['a']))
    await broker.close(soon())
    // Everything behind the schema's page.
    const size = statSync(file).size
    const whole = Buffer.alloc(size, 0xee)
    const { readFileSync } = await import('node:fs')
    readFileSync(file).copy(whole, 0, 0, 4_096)
    writeFileSync(file, whole)
    const again = sqlite({ file })
    files.afterwards(() => again.close(soon()))
    const opening = again.open(context()).then(
      async () => words(await send(again.sender('publish'), envelopes(['b']))),
      (error: { code: string }) => [error.code],
    )
    expect(await opening).toEqual(['storage-corrupt'])
  })

  it('says when it cannot be written, and loses nothing that waited', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const database = await files.database(file)
    const states: BrokerState['status'][] = []
    broker.onState(({ status }) => void states.push(status))
    await database.transaction((tx) => tx.get('PRAGMA query_only = ON'))
    const outcomes = await send(broker.sender('publish'), envelopes(['a', 'b']))
    expect(words(outcomes)).toEqual(['storage-read-only', 'storage-read-only'])
    expect(outcomes[0]).toMatchObject({ status: 'refused', error: { retryable: false } })
    expect((await rejection(database.transaction(() => 1))).code).toBe('storage-read-only')
    expect(states.at(-1)).toBe('down')
    expect(await broker.inspect?.depth(group)).toBe(0)
  })

  it('says when it is full, and goes on when it is not any more', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const database = await files.database(file)
    const sender = broker.sender('publish')
    const pages = await database.transaction((tx) => tx.get('PRAGMA page_count'))
    const limit = Number(pages?.['page_count']) + 2
    await database.transaction((tx) => tx.get(`PRAGMA max_page_count = ${limit}`))
    const large = envelopes(['a'], { key: 'k', body: new Uint8Array(100_000) })
    const [refused] = await send(sender, large)
    expect(refused).toMatchObject({
      status: 'refused',
      error: { code: 'storage-full', retryable: true },
    })
    const rejected = database.transaction((tx) => {
      tx.run('CREATE TABLE own (x BLOB)')
      tx.run('INSERT INTO own VALUES (zeroblob(100000))')
    })
    expect((await rejection(rejected)).code).toBe('storage-full')
    await database.transaction((tx) => tx.get('PRAGMA max_page_count = 100000'))
    expect(words(await send(sender, large))).toEqual(['confirmed'])
    expect(await broker.inspect?.depth(group)).toBe(1)
    const tables = await database.transaction((tx) =>
      tx.all("SELECT name FROM sqlite_schema WHERE name = 'own'"),
    )
    expect(tables).toEqual([])
  })

  it('keeps what is small when what is large does not fit any more', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const database = await files.database(file)
    const sender = broker.sender('publish')
    await send(sender, envelopes(['x']))
    const taker = await take(broker)
    await until(() => taker.deliveries.length === 1, 'the first message')
    const pages = await database.transaction((tx) => tx.get('PRAGMA page_count'))
    const limit = Number(pages?.['page_count']) + 1
    await database.transaction((tx) => tx.get(`PRAGMA max_page_count = ${limit}`))
    // In one turn: a send that does not fit, and a settle that does.
    const sending = send(sender, envelopes(['big'], { key: 'z', body: new Uint8Array(100_000) }))
    taker.deliveries[0]?.ack()
    expect(words(await sending)).toEqual(['storage-full'])
    await taker.receiver.flush(soon())
    expect(await broker.inspect?.depth(group)).toBe(0)
  })
})

describe('a file another process has locked', () => {
  it('is waited for', async () => {
    const file = files.next()
    const database = await files.database(file)
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    const waiting = database.transaction((tx) => tx.get('SELECT 1 AS one'))
    systemClock.after(300, () => other.exec('COMMIT'))
    expect(await waiting).toEqual({ one: 1 })
  })

  it('is given up after busyMs, not before, with an error that says so', async () => {
    const file = files.next()
    const database = await files.database(file, { busyMs: 400 })
    files.outside(file).exec('BEGIN IMMEDIATE')
    const startedMs = systemClock.now()
    const error = await rejection(database.transaction(() => 1))
    expect(systemClock.now() - startedMs).toBeGreaterThanOrEqual(400)
    expect(error.code).toBe('storage-busy')
    expect((error as StorageError).transient).toBe(true)
    expect(error.message).toMatch(/locked for \d+ ms by another process.*raise busyMs/)
  })

  it('waits 5 seconds unless told otherwise', async () => {
    const file = files.next()
    const database = await files.database(file)
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    systemClock.after(4_000, () => other.exec('ROLLBACK'))
    expect(await database.transaction(() => 'through')).toBe('through')
  })

  it('does not stop the event loop meanwhile', async () => {
    const file = files.next()
    const database = await files.database(file, { busyMs: 600 })
    files.outside(file).exec('BEGIN IMMEDIATE')
    let ticks = 0
    const tick = (): void => {
      ticks++
      systemClock.defer(tick)
    }
    tick()
    await rejection(database.transaction(() => 1))
    expect(ticks).toBeGreaterThan(20)
  })

  it('refuses a message at its deadline as not sent, and never stores it', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const sender = broker.sender('publish')
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    const late = send(sender, envelopes(['late']), 200)
    const patient = send(sender, envelopes(['patient'], { key: 'other' }))
    expect(words(await late)).toEqual(['not-sent'])
    other.exec('ROLLBACK')
    expect(words(await patient)).toEqual(['confirmed'])
    const stored = await broker.inspect?.browse(group, 10)
    expect(stored?.map(({ id }) => id)).toEqual(['patient'])
  })

  it('does not store a key behind one that was given up', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const sender = broker.sender('publish')
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    const first = send(sender, envelopes(['1']), 150)
    const second = send(sender, [...envelopes(['2']), ...envelopes(['x'], { key: 'other' })])
    expect(words(await first)).toEqual(['not-sent'])
    other.exec('ROLLBACK')
    expect(words(await second)).toEqual(['predecessor', 'confirmed'])
  })

  it('makes the broker blocked, then up again', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    const states: string[] = []
    broker.onState(({ status }) => void states.push(status))
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    const sending = send(broker.sender('publish'), envelopes(['a']))
    await until(() => states.at(-1) === 'blocked', 'blocked')
    other.exec('ROLLBACK')
    expect(words(await sending)).toEqual(['confirmed'])
    expect(states).toEqual(['up', 'blocked', 'up'])
  })

  it('keeps settles until they can be written', async () => {
    const file = files.next()
    const broker = await files.broker(file)
    await send(broker.sender('publish'), envelopes(['a']))
    const taker = await take(broker)
    await until(() => taker.deliveries.length === 1, 'the message')
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    taker.deliveries[0]?.ack()
    const early = await rejection(taker.receiver.flush(systemClock.now() + 100))
    expect(early.code).toBe('settle')
    other.exec('ROLLBACK')
    await taker.receiver.flush(soon())
    expect(await broker.inspect?.depth(group)).toBe(0)
  })

  it('opens when the lock is gone', async () => {
    const file = files.next()
    const other = files.outside(file)
    other.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x); BEGIN IMMEDIATE')
    const broker = sqlite({ file })
    files.afterwards(() => broker.close(soon()))
    const opening = broker.open(context())
    systemClock.after(200, () => other.exec('COMMIT'))
    expect((await opening).keyRunsInOneSend).toBe(true)
  })

  it('lets an outbox append again when the lock is gone', async () => {
    const file = files.next()
    const outbox = await files.outbox(file, { busyMs: 150 })
    const other = files.outside(file)
    other.exec('BEGIN IMMEDIATE')
    expect((await rejection(outbox.appendAlone(rowsFor(['a'])))).code).toBe('storage-busy')
    other.exec('COMMIT')
    await outbox.appendAlone(rowsFor(['b']))
    expect((await outbox.stats()).pending).toBe(1)
  })

  it('makes an inbox busy, which is no failure', async () => {
    const file = files.next()
    const inbox = await files.inbox(file, { busyMs: 150 })
    files.outside(file).exec('BEGIN IMMEDIATE')
    const messages = [{ consumer: 'c', id: 'm' }]
    expect(await inbox.run(messages, 'each', async () => ['done'])).toEqual(['busy'])
    expect(await inbox.run(messages, 'batch', async () => ['done'])).toEqual(['busy'])
  })
})

/** A connection that answers one question wrongly. */
function liar(file: string, name: string, asked: string, answer: unknown): Connection {
  const connection = anyDriver.connect(file)
  return {
    exec: (sql) => connection.exec(sql),
    close: () => connection.close(),
    prepare: (sql) => {
      const statement = connection.prepare(sql)
      if (sql !== asked) return statement
      return { get: () => ({ [name]: answer }) } as unknown as Statement
    },
  }
}
