import { describe, expect, it } from 'vitest'

import {
  memoryDatabase,
  memoryInbox,
  memoryOutbox,
  type MemoryDatabase,
  type MemoryDatabaseOptions,
} from '../../../adapters/memory/index.ts'
import { ClosedError, HoldfastError, OptionError } from '../../../src/contract/errors.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

function open(options: MemoryDatabaseOptions = {}): { clock: VirtualClock; db: MemoryDatabase } {
  const clock = new VirtualClock()
  return { clock, db: memoryDatabase({ clock, ...options }) }
}

describe('a transaction of the memory database', () => {
  it('is seen by others after its commit, and by itself at once', async () => {
    const { clock, db } = open()
    const tx = db.begin()
    await tx.set('users', 'ada', { age: 36 })
    expect(tx.get('users', 'ada')).toEqual({ age: 36 })
    expect(tx.rows('users')).toEqual([['ada', { age: 36 }]])
    expect(db.get('users', 'ada')).toBeUndefined()
    await clock.run(tx.commit())
    expect(db.rows('users')).toEqual([['ada', { age: 36 }]])
  })

  it('leaves nothing when it rolls back, whatever was done to the objects', async () => {
    const { clock, db } = open()
    const row = { age: 36 }
    await clock.run(db.transaction((tx) => tx.set('users', 'ada', row)))
    row.age = 1
    const tx = db.begin()
    const read = tx.get('users', 'ada') as { age: number }
    read.age = 2
    await tx.set('users', 'ada', { age: 3 })
    await tx.delete('users', 'ada')
    expect(tx.rows('users')).toEqual([])
    await tx.rollback()
    await tx.rollback()
    expect(db.get('users', 'ada')).toEqual({ age: 36 })
  })

  it('commits when its work resolves and rolls back when it rejects', async () => {
    const { clock, db } = open()
    const failure = new Error('the business says no')
    const failing = db.transaction(async (tx) => {
      await tx.set('users', 'ada', 1)
      throw failure
    })
    await expect(failing).rejects.toBe(failure)
    const result = db.transaction(async (tx) => {
      tx.add('log', 'first')
      tx.add('log', 'first')
      return 'done'
    })
    expect(await clock.run(result)).toBe('done')
    expect(db.rows('users')).toEqual([])
    expect(db.rows('log').map(([, text]) => text)).toEqual(['first', 'first'])
  })

  it('undoes a savepoint alone', async () => {
    const { clock, db } = open()
    await clock.run(
      db.transaction(async (tx) => {
        await tx.set('t', 'kept', 1)
        await tx.savepoint(() => tx.set('t', 'inner', 1))
        const undone = tx.savepoint(async () => {
          await tx.set('t', 'kept', 2)
          await tx.set('t', 'undone', 1)
          throw new Error('only this')
        })
        await expect(undone).rejects.toThrow('only this')
        expect(tx.get('t', 'kept')).toBe(1)
      }),
    )
    expect(db.rows('t')).toEqual([
      ['kept', 1],
      ['inner', 1],
    ])
  })

  it('inserts a row only where there is none', async () => {
    const { clock, db } = open()
    await clock.run(
      db.transaction(async (tx) => {
        expect(await tx.insert('t', 'a', 1)).toBe(true)
        expect(await tx.insert('t', 'a', 2)).toBe(false)
        expect(await tx.delete('t', 'a')).toBe(true)
        expect(await tx.delete('t', 'a')).toBe(false)
        expect(await tx.insert('t', 'a', 3)).toBe(true)
      }),
    )
    expect(db.get('t', 'a')).toBe(3)
  })

  it('cannot be used when it has ended', async () => {
    const { clock, db } = open()
    const tx = db.begin()
    await clock.run(tx.commit())
    const code = 'not-a-transaction'
    await expect(tx.commit()).rejects.toMatchObject({ code })
    await expect(tx.set('t', 'a', 1)).rejects.toMatchObject({ code })
    expect(() => tx.get('t', 'a')).toThrow(HoldfastError)
    expect(() => tx.add('t', 1)).toThrow(HoldfastError)
  })
})

describe('row locks', () => {
  it('let the second wait for the first, in line', async () => {
    const { clock, db } = open()
    const first = db.begin()
    await first.set('t', 'a', 1)
    const order: string[] = []
    const others = ['second', 'third'].map((name) =>
      db.transaction(async (tx) => {
        const before = await tx.insert('t', 'a', name)
        order.push(`${name} ${before}`)
      }),
    )
    await clock.settle()
    expect(order).toEqual([])
    await first.rollback()
    await clock.run(Promise.all(others))
    expect(order).toEqual(['second true', 'third false'])
    expect(db.get('t', 'a')).toBe('second')
    expect(clock.timers).toBe(0)
  })

  it('are given up when the wait is too long', async () => {
    const { clock, db } = open({ lockWaitMs: 200 })
    const first = db.begin()
    await first.set('t', 'a', 1)
    const second = db.transaction((tx) => tx.set('t', 'a', 2))
    second.catch(() => undefined)
    await clock.advance(200)
    await expect(second).rejects.toMatchObject({ code: 'storage-busy', transient: true })
    await clock.run(first.commit())
    expect(db.get('t', 'a')).toBe(1)
    await clock.run(db.transaction((tx) => tx.set('t', 'a', 3)))
    expect(db.get('t', 'a')).toBe(3)
  })

  it('end a deadlock by the wait', async () => {
    const { clock, db } = open({ lockWaitMs: 100 })
    const [one, other] = [db.begin(), db.begin()]
    await one.set('t', 'a', 1)
    await other.set('t', 'b', 1)
    const both = Promise.allSettled([one.set('t', 'b', 2), other.set('t', 'a', 2)])
    await clock.advance(100)
    const states = (await both).map(({ status }) => status)
    expect(states).toContain('rejected')
    await Promise.all([one.rollback(), other.rollback()])
    expect(clock.timers).toBe(0)
  })

  it('taken in a savepoint are free when it is undone', async () => {
    const { db } = open({ lockWaitMs: 0 })
    const [one, other] = [db.begin(), db.begin()]
    await one.set('t', 'mine', 1)
    const undone = one.savepoint(async () => {
      await one.set('t', 'free', 1)
      throw new Error('undo')
    })
    await expect(undone).rejects.toThrow('undo')
    await other.set('t', 'free', 1)
    await expect(other.set('t', 'mine', 1)).rejects.toMatchObject({ code: 'storage-busy' })
  })

  it('know tables and keys apart, whatever is in their names', async () => {
    const { db } = open({ lockWaitMs: 0 })
    const [one, other] = [db.begin(), db.begin()]
    await one.set('a:b', 'c', 1)
    await other.set('a', 'b:c', 1)
    expect(one.get('a', 'b:c')).toBeUndefined()
  })
})

describe('faults of the database', () => {
  it('fail a commit: nothing of it stays, and its locks are free', async () => {
    const { clock, db } = open({ lockWaitMs: 0 })
    db.faults.failCommits()
    const failing = clock.run(db.transaction((tx) => tx.set('t', 'a', 1)))
    await expect(failing).rejects.toMatchObject({ code: 'storage', transient: true })
    expect(db.rows('t')).toEqual([])
    expect(db.faults.hits).toBe(1)
    await clock.run(db.transaction((tx) => tx.set('t', 'a', 2)))
    expect(db.get('t', 'a')).toBe(2)
  })

  it.each([
    ['committed', 1],
    ['rolled back', undefined],
  ] as const)('lose the answer of a commit that %s', async (really, found) => {
    const { clock, db } = open()
    db.faults.loseCommits(really)
    const lost = clock.run(db.transaction((tx) => tx.set('t', 'a', 1)))
    await expect(lost).rejects.toMatchObject({ code: 'commit-unknown' })
    expect(db.get('t', 'a')).toBe(found)
  })

  it('break open transactions, waits and everything new until reconnected', async () => {
    const { clock, db } = open()
    const [holder, waiter] = [db.begin(), db.begin()]
    await holder.set('t', 'a', 1)
    const waiting = waiter.set('t', 'a', 2)
    const inCommit = db.begin()
    await inCommit.set('t', 'b', 1)
    const commit = inCommit.commit()
    db.faults.disconnect()
    await expect(waiting).rejects.toMatchObject({ code: 'unavailable', transient: true })
    await expect(holder.commit()).rejects.toMatchObject({ code: 'unavailable' })
    await expect(clock.run(commit)).rejects.toMatchObject({ code: 'commit-unknown' })
    expect(() => db.begin()).toThrow(/cannot be reached/)
    const outbox = memoryOutbox({ database: db })
    await expect(clock.run(outbox.stats())).rejects.toMatchObject({ code: 'unavailable' })
    db.faults.reconnect()
    await clock.run(db.transaction((tx) => tx.set('t', 'a', 3)))
    expect(db.rows('t')).toEqual([['a', 3]])
    expect(clock.timers).toBe(0)
  })

  it('close ends what is open and refuses the rest, twice', async () => {
    const { clock, db } = open()
    const [holder, waiter] = [db.begin(), db.begin()]
    await holder.set('t', 'a', 1)
    const waiting = waiter.set('t', 'a', 2)
    await db.close()
    await db.close()
    await expect(waiting).rejects.toBeInstanceOf(HoldfastError)
    expect(() => db.begin()).toThrow(ClosedError)
    expect(clock.timers).toBe(0)
  })
})

describe('options of the stores', () => {
  it('are named when they are wrong', () => {
    expect(() => memoryDatabase({ buckets: 0 })).toThrow(/buckets: got 0; allowed: .* 1 to 65536/)
    expect(() => memoryDatabase({ lockWaitMs: -1 })).toThrow(/lockWaitMs/)
    expect(() => memoryDatabase({ lockWait: 5 } as never)).toThrow(/memoryDatabase\.lockWait/)
    expect(() => memoryOutbox({ database: {} as never })).toThrow(OptionError)
    expect(() => memoryInbox({ databse: memoryDatabase() } as never)).toThrow(
      /memoryInbox\.databse/,
    )
  })
})
