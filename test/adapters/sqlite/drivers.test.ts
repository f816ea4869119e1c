import { afterAll, describe, expect, it, vi } from 'vitest'

import { loadDriver, type Connection, type SqlValue } from '../../../adapters/sqlite/driver.ts'
import { troubleOf } from '../../../adapters/sqlite/errors.ts'
import { availableDrivers, scratch } from './scratch.ts'

const folder = scratch()
afterAll(() => folder.remove())

const drivers = await availableDrivers()

describe.each(drivers)('$name', (driver) => {
  function withTable(work: (connection: Connection) => void): void {
    const connection = driver.connect(':memory:')
    try {
      connection.exec('CREATE TABLE t (any, whole INTEGER, text TEXT, bytes BLOB)')
      work(connection)
    } finally {
      connection.close()
    }
  }

  function roundTrip(column: string, value: SqlValue): SqlValue | undefined {
    let back: SqlValue | undefined
    withTable((connection) => {
      connection.prepare(`INSERT INTO t (${column}) VALUES (?)`, true).run(value)
      back = connection.prepare(`SELECT ${column} AS value FROM t`, true).get()?.['value']
    })
    return back
  }

  it.each([
    ['a number', 5, 5],
    ['a number beyond 32 bits', 3_000_000_000, 3_000_000_000],
    ['the largest exact number', Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    ['a whole number no number can hold', 2n ** 53n + 1n, 2n ** 53n + 1n],
    ['the smallest 64-bit number', -(2n ** 63n), -(2n ** 63n)],
    ['a small bigint', 7n, 7],
    ['null', null, null],
  ])('keeps %s in an INTEGER column', (_, value, expected) => {
    expect(roundTrip('whole', value)).toBe(expected)
  })

  it.each([
    ['a fraction', 0.1],
    ['a whole number', 12],
    ['an empty text', ''],
    ['a text with a zero character inside', 'a\u0000b'],
    ['a text with 🦊', 'a 🦊'],
  ])('keeps %s in a column of any type', (_, value) => {
    if (driver.name === 'node:sqlite' && String(value).includes('\u0000')) {
      // Before Node 24 the driver reads texts up to the first zero; ids and keys are kept as they are written.
      expect(['a\u0000b', 'a']).toContain(roundTrip('any', value))
      return
    }
    expect(roundTrip('any', value)).toBe(value)
  })

  it('writes whole numbers as integers, also into a TEXT column', () => {
    expect(roundTrip('text', 5)).toBe('5')
    expect(roundTrip('text', 3_000_000_000)).toBe('3000000000')
  })

  it('reads bytes as Uint8Array, and tells none from NULL', () => {
    const some = roundTrip('bytes', Buffer.from([1, 2, 255]))
    expect(some).toEqual(Uint8Array.from([1, 2, 255]))
    expect(some?.constructor).toBe(Uint8Array)
    for (const empty of [new Uint8Array(0), Buffer.alloc(0), new TextEncoder().encode('')]) {
      expect(roundTrip('bytes', empty)).toEqual(new Uint8Array(0))
    }
    expect(roundTrip('bytes', null)).toBeNull()
  })

  it.each([
    ['a boolean', true],
    ['undefined', undefined],
    ['a date', new Date(0)],
    ['a bigint of 65 bits', 2n ** 64n],
  ])('refuses %s as a parameter, saying which', (_, value) => {
    withTable((connection) => {
      const statement = connection.prepare('INSERT INTO t (whole, text) VALUES (?, ?)', true)
      expect(() => statement.run(1, value as SqlValue)).toThrow(/SQL parameter 2: got .*allowed/)
    })
  })

  it('runs what returns rows, and reads what returns none', () => {
    withTable((connection) => {
      const insert = connection.prepare('INSERT INTO t (whole) VALUES (4) RETURNING whole', true)
      expect(insert.run()).toEqual({ changes: 1, lastInsertRowid: 1 })
      expect(insert.get()).toEqual({ whole: 4 })
      expect(insert.all()).toEqual([{ whole: 4 }])
      const plain = connection.prepare('INSERT INTO t (whole) VALUES (5)', true)
      expect(plain.get()).toBeUndefined()
      expect(plain.all()).toEqual([])
    })
  })

  it('stops reading in the middle and leaves the connection usable', () => {
    withTable((connection) => {
      for (let n = 0; n < 5; n++) connection.prepare('INSERT INTO t (whole) VALUES (?)').run(n)
      connection.exec('BEGIN')
      for (const row of connection.prepare('SELECT whole FROM t').iterate()) {
        if (row['whole'] === 2) break
      }
      connection.exec('DELETE FROM t')
      connection.exec('COMMIT')
      connection.exec('DROP TABLE t')
    })
  })

  it('never waits for a lock by itself', () => {
    const file = folder.file(`${driver.name.replaceAll(/\W/g, '')}-lock.db`)
    const [one, other] = [driver.connect(file), driver.connect(file)]
    one.exec('CREATE TABLE t (x); BEGIN IMMEDIATE')
    const startedAt = performance.now()
    let error: unknown
    try {
      other.exec('BEGIN IMMEDIATE')
    } catch (thrown) {
      error = thrown
    }
    expect(troubleOf(error)).toBe('busy')
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    one.close()
    other.close()
  })
})

describe('loadDriver', () => {
  it('names the command when better-sqlite3 is missing', async () => {
    vi.doMock('better-sqlite3', () => {
      throw new Error("Cannot find package 'better-sqlite3'")
    })
    await expect(loadDriver('better-sqlite3')).rejects.toMatchObject({
      code: 'missing-package',
      message: expect.stringContaining('npm install better-sqlite3') as string,
    })
    vi.doUnmock('better-sqlite3')
  })

  it('prefers the driver Node brings along', async () => {
    const has = process.getBuiltinModule('node:sqlite') !== undefined
    expect((await loadDriver('auto')).name).toBe(has ? 'node:sqlite' : 'better-sqlite3')
  })
})
