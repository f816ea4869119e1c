import { readFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'

import {
  fromBetterSqlite3,
  fromNodeSqlite,
  sqliteOutbox,
  type UserConnection,
} from '../../../adapters/sqlite/index.ts'
import { outboxStatements } from '../../../adapters/sql/outbox.ts'
import { dialect } from '../../../adapters/sqlite/dialect.ts'
import type { CrashPoint } from '../../../src/contract/crash-points.ts'
import type { Lease } from '../../../src/contract/store.ts'
import { OpenedFiles } from './opened-files.ts'
import { availableDrivers } from './scratch.ts'
import { context, rejection, rowsFor, TOPIC, until } from './stage.ts'

const files = new OpenedFiles()
const NO_SKIP = { ids: [], keyHashes: [], topics: [] }
type Outbox = ReturnType<typeof sqliteOutbox>

async function leases(outbox: Outbox, owner = 'relay'): Promise<readonly Lease[]> {
  return (await outbox.lease(owner, 10_000, 60_000)).leases
}

async function ids(outbox: Outbox): Promise<readonly string[]> {
  const rows = await outbox.read(await leases(outbox), 10_000, NO_SKIP)
  return rows.map(({ messageId }) => messageId)
}

/** SQLite refuses the row of that id, and only that statement. */
function refuseRow(file: string, id: string): void {
  files.exec(
    file,
    `CREATE TRIGGER no_${id} BEFORE INSERT ON holdfast_outbox WHEN NEW.message_id = '${id}'
    BEGIN SELECT RAISE(ABORT, 'no ${id}'); END`,
  )
}

describe.each(await availableDrivers())("the user's own connection of $name", (driver) => {
  let file: string
  let outbox: Outbox
  let connection: UserConnection & { close(): void }

  async function own(path: string): Promise<UserConnection & { close(): void }> {
    const made =
      driver.name === 'node:sqlite'
        ? new (process.getBuiltinModule('node:sqlite').DatabaseSync)(path)
        : new (await import('better-sqlite3')).default(path)
    files.afterwards(async () => made.close())
    return made as unknown as UserConnection & { close(): void }
  }

  const wrapped = (one: UserConnection): UserConnection =>
    driver.name === 'node:sqlite' ? fromNodeSqlite(one) : fromBetterSqlite3(one)

  beforeEach(async () => {
    file = files.next()
    outbox = await files.outbox(file)
    connection = await own(file)
    // What better-sqlite3 opens in WAL mode has NORMAL.
    connection.exec('PRAGMA synchronous = FULL')
  })

  it('carries rows in its open transaction', async () => {
    connection.exec('CREATE TABLE orders (id)')
    connection.exec('BEGIN IMMEDIATE')
    connection.prepare('INSERT INTO orders VALUES (1)').run()
    await outbox.append(wrapped(connection), rowsFor(['a', 'b']))
    expect(await ids(outbox).catch(({ code }: { code: string }) => code)).toBe('storage-busy')
    connection.exec('COMMIT')
    expect(await ids(outbox)).toEqual(['a', 'b'])
  })

  it('holds all rows of an append or none, also when it is committed after an error', async () => {
    refuseRow(file, 'b')
    connection.exec('BEGIN IMMEDIATE')
    await outbox.append(connection, rowsFor(['0']))
    const error = await rejection(outbox.append(connection, rowsFor(['a', 'b', 'c'])))
    expect(error.message).toMatch(/appending to the outbox.*no b/)
    await outbox.append(connection, rowsFor(['d', 'e']))
    connection.exec('COMMIT')
    expect(await ids(outbox)).toEqual(['0', 'd', 'e'])
  })

  it('takes rows with it when it rolls back', async () => {
    connection.exec('BEGIN IMMEDIATE')
    await outbox.append(connection, rowsFor(['a']))
    connection.exec('ROLLBACK')
    expect(await ids(outbox)).toEqual([])
    connection.exec('BEGIN')
    await outbox.append(connection, rowsFor(['b']))
    connection.exec('COMMIT')
    expect(await ids(outbox)).toEqual(['b'])
  })

  it('appends in the turn of the call, so that a synchronous transaction holds it', async () => {
    const appended: Promise<void>[] = []
    connection.exec('BEGIN')
    appended.push(outbox.append(connection, rowsFor(['a'])))
    connection.exec('COMMIT')
    await Promise.all(appended)
    expect(await ids(outbox)).toEqual(['a'])
  })

  it('is refused without an open transaction', async () => {
    const error = await rejection(outbox.append(connection, rowsFor(['a'])))
    expect(error.code).toBe('not-a-transaction')
    expect(error.message).toMatch(/no open transaction: run BEGIN IMMEDIATE/)
    connection.exec('BEGIN')
    await outbox.append(connection, rowsFor(['b']))
    connection.exec('COMMIT')
    expect((await rejection(outbox.append(connection, rowsFor(['c'])))).code).toBe(
      'not-a-transaction',
    )
    expect(await ids(outbox)).toEqual(['b'])
  })

  it('is refused on another file, or on none', async () => {
    for (const path of [files.next(), ':memory:']) {
      const other = await own(path)
      other.exec('BEGIN')
      const error = await rejection(outbox.append(other, rowsFor(['a'])))
      expect(error.code).toBe('not-a-transaction')
      expect(error.message).toMatch(/only on one file they commit together/)
    }
  })

  it('is refused when a power loss would take what it commits', async () => {
    connection.exec('PRAGMA synchronous = NORMAL')
    connection.exec('BEGIN')
    const error = await rejection(outbox.append(connection, rowsFor(['a'])))
    expect(error.code).toBe('option')
    expect(error.message).toMatch(/synchronous = 1.*run PRAGMA synchronous = FULL/)
    connection.exec('COMMIT')
    connection.exec('PRAGMA synchronous = EXTRA')
    connection.exec('BEGIN')
    await outbox.append(connection, rowsFor(['b']))
    connection.exec('COMMIT')
    expect(await ids(outbox)).toEqual(['b'])
  })

  it('wakes the relay by the change of the file', async () => {
    let heard = 0
    files.afterwards(async () => stop())
    const stop = outbox.onAppended(() => heard++)
    await until(() => heard > 0, 'the first look')
    const before = heard
    connection.exec('BEGIN')
    await outbox.append(connection, rowsFor(['a']))
    connection.exec('COMMIT')
    await until(() => heard > before, 'the change')
  })
})

describe('an outbox in a SQLite file', () => {
  it('appends all rows or none, also when the error is caught and the rest committed', async () => {
    const file = files.next()
    const outbox = await files.outbox(file)
    const database = await files.database(file)
    refuseRow(file, 'b')
    await database.transaction(async (tx) => {
      tx.run('CREATE TABLE own (x)')
      await rejection(outbox.append(tx, rowsFor(['a', 'b', 'c'])))
      tx.run('INSERT INTO own VALUES (1)')
    })
    expect(await ids(outbox)).toEqual([])
    const own = await database.transaction((tx) => tx.all('SELECT x FROM own'))
    expect(own).toEqual([{ x: 1 }])
  })

  it('commits nothing of a transaction that was lost in an append', async () => {
    const file = files.next()
    const outbox = await files.outbox(file)
    const database = await files.database(file)
    await database.transaction((tx) => {
      tx.run('CREATE TABLE own (x)')
      const pages = Number(tx.get('PRAGMA page_count')?.['page_count'])
      tx.get(`PRAGMA max_page_count = ${pages + 2}`)
    })
    const large = rowsFor(['a', 'b'], { key: 'k', body: new Uint8Array(100_000) })
    const lost = database.transaction(async (tx) => {
      tx.run('INSERT INTO own VALUES (1)')
      expect((await rejection(outbox.append(tx, large))).code).toBe('storage-full')
      expect(() => tx.run('INSERT INTO own VALUES (2)')).toThrow(/no room left/)
    })
    expect((await rejection(lost)).code).toBe('storage-full')
    expect(await database.transaction((tx) => tx.all('SELECT x FROM own'))).toEqual([])
    expect(await ids(outbox)).toEqual([])
  })

  it('refuses a transaction on another file', async () => {
    const outbox = await files.outbox(files.next())
    const other = await files.database(files.next())
    const error = await rejection(other.transaction((tx) => outbox.append(tx, rowsFor(['a']))))
    expect(error.code).toBe('not-a-transaction')
  })

  it('takes the tx of a handler', async () => {
    const file = files.next()
    const outbox = await files.outbox(file)
    const inbox = await files.inbox(file)
    const messages = ['a', 'b'].map((id) => ({ consumer: 'c', id }))
    await inbox.run(messages, 'each', async (tx, [index]) => {
      await outbox.append(tx, rowsFor([`from ${messages[index!]?.id}`]))
      return [index === 0 ? 'failed' : 'done']
    })
    expect(await ids(outbox)).toEqual(['from b'])
  })

  it('keeps its number of buckets while it has rows', async () => {
    const file = files.next()
    const first = await files.outbox(file, { buckets: 4 })
    expect((await first.lease('relay', 10_000, 60_000)).buckets).toBe(4)
    await first.appendAlone(rowsFor(['a']))
    const error = await rejection(sqliteOutbox({ file, buckets: 8 }).open(context()))
    expect(error.message).toMatch(/buckets: got 8; allowed: 4, until the outbox.*is empty/)
    const held = await leases(first)
    await first.complete(held, await first.read(held, 10, NO_SKIP))
    const wider = await files.outbox(file, { buckets: 8 })
    expect((await leases(wider, 'other')).length).toBe(8)
  })

  it('leaves rows of a later version to a later relay', async () => {
    const file = files.next()
    const outbox = await files.outbox(file)
    await outbox.appendAlone(rowsFor(['now', 'later']))
    const database = await files.database(file)
    await database.transaction((tx) => {
      tx.run("UPDATE holdfast_outbox SET v = 2 WHERE message_id = 'later'")
    })
    expect(await ids(outbox)).toEqual(['now'])
    expect((await outbox.stats()).pending).toBe(2)
  })

  it('refuses a file that a later version has written', async () => {
    const file = files.next()
    await (await files.outbox(file)).close()
    const database = await files.database(file)
    await database.transaction((tx) => {
      tx.run("UPDATE holdfast_meta SET value = 99 WHERE name = 'outbox.version'")
    })
    const error = await rejection(sqliteOutbox({ file }).open(context()))
    expect(error.message).toMatch(/outbox tables of version 99.*update holdfast/)
  })

  it('makes no tables when it is only to verify', async () => {
    const file = files.next()
    const error = await rejection(sqliteOutbox({ file, schema: 'verify' }).open(context()))
    expect(error.code).toBe('topology')
    expect(error.message).toMatch(/no outbox tables.*schema: 'create'/)
    await files.outbox(file)
    await files.outbox(file, { schema: 'verify' })
  })

  it('refuses ids that a database would cut off', async () => {
    const outbox = await files.outbox(files.next())
    const error = await rejection(outbox.appendAlone(rowsFor(['good', 'a\u0000b'])))
    expect(error.code).toBe('rejected')
    expect((await outbox.stats()).pending).toBe(0)
  })

  it('visits its crash points inside the transactions they are about', async () => {
    const file = files.next()
    const points: CrashPoint[] = []
    const crash = { at: (point: CrashPoint): void => void points.push(point) }
    const outbox = await files.outbox(file, {}, { ...context(), crash })
    await outbox.appendAlone(rowsFor(['a', 'b']))
    const held = await leases(outbox)
    const [a, b] = await outbox.read(held, 10, NO_SKIP)
    await outbox.complete(held, [a!])
    await outbox.park(held, [b!], 'no')
    expect(points).toEqual([
      'after_insert_before_commit',
      'after_commit_before_nudge',
      'during_lease_renew',
      'during_delete',
      'during_park',
    ])
  })

  it('loses nothing when a crash point throws inside its transaction', async () => {
    const file = files.next()
    let failing: CrashPoint | null = null
    const crash = {
      at: (point: CrashPoint): void => {
        if (point === failing) throw new Error(`crash at ${point}`)
      },
    }
    const outbox = await files.outbox(file, {}, { ...context(), crash })
    await outbox.appendAlone(rowsFor(['a']))
    const held = await leases(outbox)
    const rows = await outbox.read(held, 10, NO_SKIP)
    failing = 'during_delete'
    await rejection(outbox.complete(held, rows))
    failing = 'during_park'
    await rejection(outbox.park(held, rows, 'no'))
    failing = null
    expect(await outbox.stats()).toMatchObject({ pending: 1, dead: 0 })
  })

  it('gives a parked row back by the statements of its documentation', async () => {
    const file = files.next()
    const outbox = await files.outbox(file)
    const database = await files.database(file)
    await outbox.appendAlone(rowsFor(['a', 'b']))
    const held = await leases(outbox)
    const [row] = await outbox.read(held, 1, NO_SKIP)
    expect(await outbox.park(held, [row!], 'unroutable: no group')).toBe(1)
    const page = readFileSync(new URL('../../../docs/adapters/sqlite.md', import.meta.url), 'utf8')
    const statements = /```sql\n([^`]+)```/.exec(page)?.[1]?.split(';') ?? []
    const [look = '', , insert = '', remove = ''] = statements
    await database.transaction((tx) => {
      expect(tx.all(look)).toMatchObject([{ id: 1, message_id: 'a', topic: TOPIC }])
      tx.run(insert)
      tx.run(remove)
    })
    expect(await outbox.stats()).toMatchObject({ pending: 2, dead: 0 })
    expect(await ids(outbox)).toEqual(['b', 'a'])
    const again = await outbox.read(held, 10, NO_SKIP)
    expect(again[1]?.envelope).toEqual(row?.envelope)
  })

  it('reads by the primary key alone', async () => {
    const file = files.next()
    await files.outbox(file)
    const database = await files.database(file)
    const sql = outboxStatements(dialect)
    const plan = (text: string): Promise<string> =>
      database.transaction((tx) =>
        tx
          .all(`EXPLAIN QUERY PLAN ${text}`, ...Array.from(text.matchAll(/\?/g), () => 1))
          .map(({ detail }) => detail)
          .join('; '),
      )
    const all = { buckets: true, notIds: true, notKeys: true, notTopics: true }
    expect(await plan(sql.read(all))).not.toMatch(/TEMP B-TREE/)
    expect(await plan(sql.complete)).toMatch(/SEARCH holdfast_outbox USING INTEGER PRIMARY KEY/)
    expect(await plan(sql.due)).toMatch(/USING INDEX holdfast_outbox_scheduled_due/)
  })
})
