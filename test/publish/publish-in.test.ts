import { describe, expect, it } from 'vitest'
import { z } from 'zod'

import {
  memoryDatabase,
  memoryOutbox,
  type MemoryTransaction,
} from '../../adapters/memory/index.ts'
import {
  CapabilityError,
  ClosedError,
  OptionError,
  SchemaError,
} from '../../src/contract/errors.ts'
import type { OutboxRow, OutboxStore } from '../../src/contract/store.ts'
import { topic } from '../../src/contract/topic.ts'
import { Notes, Orders, Stage } from './stage.ts'

const order = { customer: 'c-9', n: 1 }

function withOutbox(): {
  stage: Stage<MemoryTransaction>
  database: ReturnType<typeof memoryDatabase>
  pending: () => Promise<number>
} {
  const database = memoryDatabase()
  const outbox = memoryOutbox({ database })
  const stage = new Stage<MemoryTransaction>({ outbox })
  stage.broker.opening = () => new Promise(() => undefined)
  return {
    stage,
    database,
    pending: async () => (await stage.clock.run(outbox.stats())).pending,
  }
}

describe('publishIn', () => {
  it('puts the message into the outbox with the commit, without any broker', async () => {
    const { stage, database, pending } = withOutbox()
    const tx = database.begin()
    const published = await stage.clock.run(
      stage.publisher.publishIn(tx, Orders, order, { id: 'o-1' }),
    )
    expect(published).toEqual({
      id: 'o-1',
      topic: 'orders',
      key: 'c-9',
      via: 'outbox',
      attempts: 1,
      possiblyDuplicated: false,
    })
    expect(await pending()).toBe(0)
    await stage.clock.run(tx.commit())
    expect(await pending()).toBe(1)
    expect(stage.broker.opens).toBe(0)
  })

  it('puts nothing there when the transaction rolls back', async () => {
    const { stage, database, pending } = withOutbox()
    const tx = database.begin()
    await stage.clock.run(stage.publisher.publishIn(tx, Orders, order))
    await stage.clock.run(tx.rollback())
    expect(await pending()).toBe(0)
  })

  it('passes on that it was not given a transaction', async () => {
    const { stage, database } = withOutbox()
    const call = stage.publisher.publishIn(database as never, Orders, order)
    await expect(stage.clock.run(call)).rejects.toMatchObject({ code: 'not-a-transaction' })
  })

  it('needs an outbox', async () => {
    const stage = new Stage()
    const call = stage.publisher.publishIn({}, Orders, order)
    await expect(call).rejects.toBeInstanceOf(CapabilityError)
    await expect(call).rejects.toThrow(
      'publishIn needs an outbox: give the publisher the option outbox',
    )
  })

  it('appends in the same turn once the outbox is open, for synchronous transactions', async () => {
    const appended: (readonly OutboxRow[])[] = []
    const outbox = {
      open: () => Promise.resolve(),
      append: (_tx: unknown, rows: readonly OutboxRow[]) => {
        appended.push(rows)
        return Promise.resolve()
      },
    } as unknown as OutboxStore<unknown>
    const stage = new Stage({ outbox })
    await stage.clock.run(stage.publisher.open())
    const call = stage.publisher.publishIn({}, Orders, order)
    expect(appended).toHaveLength(1)
    await call
  })

  it('refuses a body the broker would not take, when the broker is known', async () => {
    const database = memoryDatabase()
    const outbox = memoryOutbox({ database })
    const capabilities = { limits: () => ({ maxBodyBytes: 10 }) }
    const stage = new Stage<MemoryTransaction>({ outbox, capabilities })
    await stage.clock.run(stage.publisher.open())
    const call = stage.publisher.publishIn(database.begin(), Notes, 'x'.repeat(20))
    await expect(call).rejects.toMatchObject({ code: 'too-large' })
    await expect(call).rejects.toThrow('has 22 bytes, "notes" takes at most 10')
  })

  it('refuses what only the transaction can decide, and everything after close', async () => {
    const { stage, database } = withOutbox()
    const tx = database.begin()
    const limited = stage.publisher.publishIn(tx, Orders, order, { deadlineMs: 5 } as object)
    await expect(limited).rejects.toBeInstanceOf(OptionError)
    await stage.clock.run(stage.publisher.close())
    const late = stage.publisher.publishIn(tx, Orders, order)
    await expect(late).rejects.toBeInstanceOf(ClosedError)
  })
})

describe('publishBatchIn', () => {
  it('puts all of it there in one statement, in order, with ids of their own', async () => {
    const statements: string[][] = []
    const outbox = {
      open: () => Promise.resolve(),
      append: (_tx: unknown, rows: readonly OutboxRow[]) => {
        statements.push(rows.map(({ envelope }) => envelope.id))
        return Promise.resolve()
      },
    } as unknown as OutboxStore<unknown>
    const stage = new Stage({ outbox })
    const orders = [1, 2, 3].map((n) => ({ customer: 'c', n }))
    const published = await stage.clock.run(stage.publisher.publishBatchIn({}, Orders, orders))
    expect(statements).toEqual([published.map(({ id }) => id)])
    expect(new Set(statements[0])).toHaveLength(3)
    expect(published.map(({ via }) => via)).toEqual(['outbox', 'outbox', 'outbox'])
  })

  it('puts nothing there when one of it is unfit', async () => {
    const { stage, database, pending } = withOutbox()
    const typed = topic('notes', { schema: z.string() })
    const tx = database.begin()
    const call = stage.publisher.publishBatchIn(tx, typed, ['a', 5 as never])
    await expect(stage.clock.run(call)).rejects.toBeInstanceOf(SchemaError)
    await stage.clock.run(tx.commit())
    expect(await pending()).toBe(0)
  })

  it('of nothing does nothing', async () => {
    const { stage, database } = withOutbox()
    expect(await stage.publisher.publishBatchIn(database.begin(), Orders, [])).toEqual([])
  })
})
