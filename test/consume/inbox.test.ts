import { describe, expect, it } from 'vitest'
import {
  memoryDatabase,
  type MemoryDatabase,
  memoryInbox,
  type MemoryInbox,
  type MemoryTransaction,
} from '../../adapters/memory/index.ts'
import { StorageError } from '../../src/contract/errors.ts'
import type { InboxStore } from '../../src/contract/store.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { constant } from '../../src/policy/backoff.ts'
import type { MemoryOptions } from '../../adapters/memory/index.ts'
import { Gate, group, Loose, nameOf, type Order, Orders, Stage, text } from './stage.ts'

/** A stage with a database whose table `effects` has a row for each effect, in order. */
async function withInbox(options: MemoryOptions = {}): Promise<{
  stage: Stage
  database: MemoryDatabase
  inbox: MemoryInbox
  effects: () => string[]
}> {
  const stage = await Stage.open(options)
  const database = memoryDatabase({ clock: stage.clock })
  const inbox = memoryInbox({ database })
  const effects = (): string[] => database.rows('effects').map(([, row]) => row as string)
  return { stage, database, inbox, effects }
}

function effect(order: Order, { tx }: { readonly tx: MemoryTransaction }): void {
  tx.add('effects', nameOf(order))
}

describe('with an inbox', () => {
  it('an effect and the row that stands for it are committed together, before the acknowledgement', async () => {
    const { stage, database, inbox, effects } = await withInbox()
    const committed: string[][] = []
    await stage.started({
      topic: Orders,
      inbox,
      crash: {
        at: (point) => {
          if (point === 'after_commit_before_ack') committed.push(effects())
        },
      },
      handler: effect,
    })
    await stage.send(Orders, { customer: 'a', n: 1 }, { id: 'm1' })
    await stage.settled()
    expect(committed).toEqual([['a1']])
    expect(database.rows('holdfast_inbox').map(([, row]) => row)).toMatchObject([
      { consumer: 'orders.billing', id: 'stage#m1' },
    ])
    await stage.close()
  })

  it('nothing is acknowledged while the commit is not there', async () => {
    const { stage, database, inbox, effects } = await withInbox()
    const depths: Promise<number>[] = []
    const consumer = await stage.started({
      topic: Orders,
      inbox,
      handler: (order, context) => {
        effect(order, context)
        depths.push(stage.depth())
      },
    })
    database.faults.failCommits(100)
    await stage.orders('a1')
    await stage.clock.run(consumer.close())
    expect(await Promise.all(depths)).toEqual([1])
    expect([effects(), await stage.depth()]).toEqual([[], 1])
    await stage.close()
  })

  it('a second delivery of the same message has no effect and is acknowledged', async () => {
    const { stage, inbox, effects } = await withInbox()
    await stage.started({ topic: Orders, inbox, handler: effect })
    const envelope = await stage.send(Orders, { customer: 'a', n: 1 })
    await stage.sendRaw(envelope)
    await stage.settled()
    expect(effects()).toEqual(['a1'])
    expect(stage.told('message.duplicate')).toHaveLength(1)
    await stage.close()
  })

  it('a failed handler leaves nothing behind and is tried again', async () => {
    const { stage, inbox, effects } = await withInbox()
    await stage.started({
      topic: Orders,
      inbox,
      retry: { backoff: constant(100) },
      handler: (order, context) => {
        effect(order, context)
        if (context.attempt < 3) throw new Error('not yet')
      },
    })
    await stage.orders('a1 a2 b1')
    await stage.settled()
    expect(effects().toSorted()).toEqual(['a1', 'a2', 'b1'])
    expect(stage.told('message.retry')).toHaveLength(6)
    await stage.close()
  })

  it.each(['committed', 'rolled back'] as const)(
    'a commit nobody answered is tried again and never counted: it was %s',
    async (really) => {
      const { stage, database, inbox, effects } = await withInbox()
      const attempts: number[] = []
      database.faults.loseCommits(really, 3)
      await stage.started({
        topic: Orders,
        inbox,
        retry: { attempts: 2 },
        handler: (order, context) => {
          attempts.push(context.attempt)
          effect(order, context)
        },
      })
      await stage.orders('a1')
      await stage.settled()
      expect(effects()).toEqual(['a1'])
      expect(attempts).toEqual(really === 'committed' ? [1] : [1, 1, 1, 1])
      expect(stage.dead()).toEqual([])
      expect(database.faults.hits).toBe(really === 'committed' ? 1 : 3)
      await stage.close()
    },
  )

  it('a database that is away holds deliveries, counts nothing and loses nothing', async () => {
    const { stage, database, inbox, effects } = await withInbox()
    const attempts: number[] = []
    await stage.started({
      topic: Orders,
      inbox,
      retry: { attempts: 1 },
      handler: (order, context) => {
        attempts.push(context.attempt)
        effect(order, context)
      },
    })
    database.faults.disconnect()
    await stage.orders('a1 a2 b1')
    await stage.clock.advance(600_000)
    expect(await stage.depth()).toBe(3)
    expect([stage.dead(), stage.told('message.retry')]).toEqual([[], []])
    database.faults.reconnect()
    await stage.settled()
    expect(effects().toSorted()).toEqual(['a1', 'a2', 'b1'])
    expect(attempts).toEqual([1, 1, 1])
    await stage.close()
  })

  it('a database that goes away inside a handler is no failure of the message', async () => {
    const { stage, database, inbox, effects } = await withInbox()
    let runs = 0
    await stage.started({
      topic: Orders,
      inbox,
      retry: { attempts: 1 },
      handler: (order, context) => {
        if (runs++ === 0) {
          database.faults.disconnect()
          stage.clock.after(1_000, () => database.faults.reconnect())
        }
        effect(order, context)
      },
    })
    await stage.orders('a1')
    await stage.settled()
    expect(effects()).toEqual(['a1'])
    expect(stage.dead()).toEqual([])
    await stage.close()
  })

  it('a failed commit that says why is the message’s own failure, and found among others', async () => {
    const { stage, database, effects } = await withInbox()
    const inbox = memoryInbox({ database })
    const run = inbox.run.bind(inbox)
    // As a constraint that is checked at the commit.
    inbox.run = async (messages, mode, work) => {
      const handled: string[] = []
      return run(messages, mode, async (tx, fresh) => {
        const results = await work(tx, fresh)
        handled.push(...tx.rows('effects').map(([, row]) => row as string))
        const isLast = fresh.includes(messages.length - 1)
        if (isLast && handled.includes('b1')) throw new Error('violates a constraint')
        return results
      })
    }
    await stage.started({
      topic: Orders,
      inbox,
      concurrency: 1,
      retry: { attempts: 3, backoff: constant(100) },
      handler: effect,
    })
    await stage.orders('a1 b1 c1 a2')
    await stage.settled()
    expect(effects().toSorted()).toEqual(['a1', 'a2', 'c1'])
    expect(text(stage.dead()[0]!.headers, ownHeaders.deadError)).toContain('violates a constraint')
    expect(stage.dead()).toHaveLength(1)
    await stage.close()
  })

  it('a message that another process works on waits, and neither counts nor goes', async () => {
    const { stage, database, effects } = await withInbox()
    const gate = new Gate()
    const other = memoryInbox({ database })
    const id = '00000000-0000-4000-8000-000000000001'
    const emit = Object.assign(() => undefined, { wants: () => false })
    const { signal } = new AbortController()
    const crash = { at: () => undefined }
    await stage.clock.run(other.open({ clock: stage.clock, crash, emit, signal }))
    const elsewhere = other.run([{ consumer: 'orders.billing', id }], 'each', async () => {
      await gate.passed
      return ['failed']
    })
    await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      retry: { attempts: 1 },
      handler: effect,
    })
    await stage.send(Orders, { customer: 'a', n: 1 }, { id })
    await stage.orders('a2 b1')
    await stage.clock.advance(60_000)
    expect(effects()).toEqual(['b1'])
    expect(await stage.depth()).toBe(2)
    expect(stage.dead()).toEqual([])
    gate.open()
    await stage.clock.run(elsewhere)
    await stage.settled()
    expect(effects()).toEqual(['b1', 'a1', 'a2'])
    await stage.close()
  })

  it('an inbox that never answers is asked again, and keeps no other key waiting', async () => {
    const { stage, inbox, effects } = await withInbox()
    const run = inbox.run.bind(inbox)
    let silent = 2
    inbox.run = (messages, mode, work) =>
      silent-- > 0 ? new Promise(() => undefined) : run(messages, mode, work)
    await stage.started({ topic: Orders, inbox, handlerTimeoutMs: 1_000, handler: effect })
    await stage.orders('a1 b1 c1')
    expect(effects()).toEqual(['c1'])
    await stage.clock.advance(30_999)
    expect(effects()).toEqual(['c1'])
    await stage.settled()
    expect(effects()).toEqual(['c1', 'a1', 'b1'])
    expect(stage.told('message.retry')).toEqual([])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('an inbox that begins after it was given up does nothing', async () => {
    const { stage, inbox, effects } = await withInbox()
    const run = inbox.run.bind(inbox)
    const gate = new Gate()
    let late: Promise<unknown> | null = null
    inbox.run = (messages, mode, work) => {
      if (late !== null) return run(messages, mode, work)
      const answer = gate.passed.then(() => run(messages, mode, work))
      late = answer
      return answer
    }
    let runs = 0
    await stage.started({
      topic: Orders,
      inbox,
      handlerTimeoutMs: 1_000,
      handler: (order, context) => {
        runs++
        effect(order, context)
      },
    })
    await stage.orders('a1')
    stage.broker.faults.loseSources({ withhold: true })
    await stage.clock.advance(32_000)
    gate.open()
    await expect(stage.clock.run(late!)).rejects.toThrow('rolled back on purpose')
    expect([runs, effects()]).toEqual([0, []])
    stage.broker.faults.regain()
    await stage.settled()
    expect([runs, effects()]).toEqual([1, ['a1']])
    await stage.close()
  })

  it('many effects share a commit, each handler its own fate', async () => {
    const { stage, database, inbox, effects } = await withInbox()
    let commits = 0
    const begin = database.begin.bind(database)
    database.begin = () => {
      commits++
      return begin()
    }
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      concurrency: 1,
      transactionSize: 100,
      retry: { attempts: 1 },
      handler: (order, context) => {
        effect(order, context)
        if (order.n % 10 === 0) throw new Error('every tenth fails')
      },
    })
    for (let n = 1; n <= 50; n++) await stage.send(Orders, { customer: `c${n % 7}`, n })
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(effects()).toHaveLength(45)
    expect(stage.dead()).toHaveLength(5)
    expect(commits).toBeLessThan(12)
    await stage.close()
  })

  it('keeps the order of a key in a shared transaction, also behind a failure', async () => {
    const { stage, inbox, effects } = await withInbox()
    let failures = 2
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      concurrency: 1,
      transactionSize: 100,
      retry: { backoff: constant(50) },
      handler: (order, context) => {
        if (nameOf(order) === 'a2' && failures-- > 0) throw new Error('not yet')
        effect(order, context)
      },
    })
    await stage.orders('a1 b1 a2 a3 b2 a4')
    await stage.clock.run(consumer.start())
    await stage.settled()
    const of = (customer: string): string[] => effects().filter((name) => name[0] === customer)
    expect(of('a')).toEqual(['a1', 'a2', 'a3', 'a4'])
    expect(of('b')).toEqual(['b1', 'b2'])
    await stage.close()
  })

  it('does not run a follower in the transaction of a duplicate or busy one', async () => {
    const { stage, inbox, effects } = await withInbox()
    const envelope = await stage.send(Orders, { customer: 'a', n: 1 })
    await stage.sendRaw(envelope)
    await stage.orders('a2')
    await stage.started({ topic: Orders, inbox, concurrency: 1, handler: effect })
    await stage.settled()
    expect(effects()).toEqual(['a1', 'a2'])
    await stage.close()
  })

  it('ends a transaction that takes too long after the handler that runs', async () => {
    const { stage, inbox, database } = await withInbox()
    const sizes: number[] = []
    const begin = database.begin.bind(database)
    database.begin = () => {
      sizes.push(0)
      return begin()
    }
    const consumer = stage.consumer({
      topic: Loose,
      inbox,
      concurrency: 1,
      transactionMs: 100,
      handler: async () => {
        sizes[sizes.length - 1]!++
        await new Promise<void>((resolve) => stage.clock.after(60, resolve))
      },
    })
    for (let n = 0; n < 8; n++) await stage.send(Loose, { customer: 'a', n })
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(8)
    expect(Math.max(...sizes)).toBe(2)
    await stage.close()
  })

  it('rolls everything back when a handler outlives its deadline, and blames only that one', async () => {
    const { stage, inbox, effects } = await withInbox()
    const gate = new Gate()
    const attempts: string[] = []
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      concurrency: 1,
      handlerTimeoutMs: 100,
      retry: { attempts: 1 },
      handler: async (order, context) => {
        attempts.push(`${nameOf(order)} ${context.attempt}`)
        context.tx.add('effects', nameOf(order))
        if (nameOf(order) === 'b1') await gate.passed
      },
    })
    await stage.orders('a1 b1 c1')
    await stage.clock.run(consumer.start())
    await stage.clock.advance(1_000)
    expect(effects()).toEqual([])
    gate.open()
    await stage.settled()
    expect(effects()).toEqual(['a1', 'c1'])
    expect(attempts).toEqual(['a1 1', 'b1 1', 'a1 1', 'c1 1'])
    expect(stage.dead().map(({ headers }) => text(headers, ownHeaders.deadReason))).toEqual([
      'attempts-exhausted',
    ])
    await stage.close()
  })

  it('keeps the row of a dead letter, so that a late copy of it is not handled', async () => {
    const { stage, inbox, database, effects } = await withInbox()
    let fails = true
    await stage.started({
      topic: Orders,
      inbox,
      retry: { attempts: 1 },
      handler: (order, context) => {
        if (fails) throw new Error('no')
        effect(order, context)
      },
    })
    const envelope = await stage.send(Orders, { customer: 'a', n: 1 }, { id: 'm' })
    await stage.settled()
    expect(stage.dead()).toHaveLength(1)
    expect(database.rows('holdfast_inbox').map(([, row]) => row)).toMatchObject([
      { consumer: 'orders.billing', id: 'stage#m', kept: true },
    ])
    fails = false
    await stage.sendRaw(envelope)
    await stage.orders('a2')
    await stage.settled()
    expect([effects(), await stage.depth()]).toEqual([['a2'], 0])
    await stage.close()
  })
})

describe('a dead letter that the inbox cannot note at once', () => {
  it('is acknowledged only when it could', async () => {
    const { stage, inbox, database } = await withInbox()
    let away = true
    const failing: InboxStore<MemoryTransaction> = {
      open: (context) => inbox.open(context),
      run: (...given) => inbox.run(...given),
      prune: (...given) => inbox.prune(...given),
      close: () => inbox.close(),
      keep: (...given) => (away ? Promise.reject(new Error('away')) : inbox.keep(...given)),
    }
    await stage.started({
      topic: Orders,
      inbox: failing,
      retry: { attempts: 1 },
      handler: () => {
        throw new Error('no')
      },
    })
    await stage.orders('a1')
    await stage.clock.advance(60_000)
    expect([stage.dead().length, await stage.depth()]).toEqual([1, 1])
    expect(stage.crashes).not.toContain('after_ack')
    away = false
    await stage.settled()
    expect([stage.dead().length, await stage.depth()]).toEqual([1, 0])
    expect(database.rows('holdfast_inbox')).toHaveLength(1)
    await stage.close()
  })
})

describe('a message without identity', () => {
  const foreign = { id: null, producer: null }

  it('is a dead letter where an inbox needs one', async () => {
    const { stage, inbox } = await withInbox()
    await stage.started({ topic: Loose, inbox, handler: () => undefined })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.sendRaw({ ...envelope, ...foreign })
    await stage.settled()
    const [dead] = stage.dead(Loose)
    expect(text(dead!.headers, ownHeaders.deadReason)).toBe('no-id')
    expect(dead!.id).toBeNull()
    await stage.close()
  })

  it('is handled without dedup where that is written: two equal ones, two effects', async () => {
    const { stage, inbox, effects } = await withInbox()
    await stage.started({ topic: Loose, inbox, requireId: false, handler: effect })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.sendRaw({ ...envelope, ...foreign })
    await stage.sendRaw({ ...envelope, ...foreign })
    await stage.settled()
    expect(effects()).toEqual(['a1', 'a1', 'a1'])
    expect(stage.told('message.undedupable')).toMatchObject([{ id: null }, { id: null }])
    await stage.close()
  })

  it('is handled where there is no inbox', async () => {
    const stage = await Stage.open()
    const ids: unknown[] = []
    await stage.started({ topic: Loose, handler: (_order, { id }) => void ids.push(id) })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.sendRaw({ ...envelope, ...foreign })
    expect(ids).toEqual([envelope.id, null])
    await stage.close()
  })

  it('gets one from what the user reads out of it', async () => {
    const { stage, inbox } = await withInbox()
    const ids: unknown[] = []
    await stage.started({
      topic: Loose,
      inbox,
      identify: ({ headers }) => text(headers, 'invoice') ?? null,
      handler: (_order, { id }) => void ids.push(id),
    })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    const headers = [['invoice', 'i-1']] as const
    await stage.sendRaw({ ...envelope, ...foreign, headers })
    await stage.sendRaw({ ...envelope, ...foreign, headers })
    await stage.settled()
    expect(ids).toEqual([envelope.id, 'i-1'])
    await stage.close()
  })

  it('is a dead letter when reading it out of it throws', async () => {
    const { stage, inbox } = await withInbox()
    await stage.started({
      topic: Loose,
      inbox,
      identify: () => {
        throw new TypeError('no such header')
      },
      handler: () => undefined,
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    const { headers } = stage.dead(Loose)[0]!
    expect(text(headers, ownHeaders.deadReason)).toBe('no-id')
    expect(text(headers, ownHeaders.deadError)).toContain('no such header')
    await stage.close()
  })
})

describe('starts', () => {
  it('are counted before the handler, only for what may have been handled before', async () => {
    const { stage, inbox, effects } = await withInbox()
    const started: string[] = []
    const count = inbox.attempts.started.bind(inbox.attempts)
    Object.assign(inbox.attempts, {
      started: (consumer: string, id: string) => {
        started.push(id)
        return count(consumer, id)
      },
    })
    const gate = new Gate()
    const consumer = await stage.started({
      topic: Loose,
      inbox,
      handler: async (order, context) => {
        if (context.redelivered === 'no') await gate.passed
        effect(order, context)
      },
    })
    await stage.send(Loose, { customer: 'a', n: 1 }, { id: 'm1' })
    expect(started).toEqual([])
    stage.broker.faults.loseSources()
    gate.fail(new Error('aborted'))
    await stage.settled()
    expect(started).toEqual(['stage#m1'])
    expect(effects()).toEqual(['a1'])
    const again = inbox.attempts.started('loose.billing', 'stage#m1')
    expect(await stage.clock.run(again)).toBe(1)
    await stage.clock.run(consumer.drain())
    await stage.close()
  })

  it('find a message that kills its process: it becomes a dead letter without another run', async () => {
    const { stage, database, inbox } = await withInbox()
    let runs = 0
    for (let life = 0; life < 6; life++) {
      const gate = new Gate()
      await stage.started({
        topic: Loose,
        inbox: memoryInbox({ database }),
        retry: { attempts: 3 },
        handler: async () => {
          runs++
          await gate.passed
        },
      })
      if (life === 0) await stage.send(Loose, { customer: 'a', n: 1 }, { id: 'killer' })
      await stage.clock.advance(10)
      // The process dies: its database connections with it.
      stage.broker.faults.loseSources({ withhold: true })
      database.faults.disconnect()
      gate.open()
      await stage.clock.settle()
      await stage.close()
      database.faults.reconnect()
      await stage.reopen()
      stage.broker.faults.regain()
    }
    expect(runs).toBe(4)
    const { headers } = stage.dead(Loose)[0]!
    expect(text(headers, ownHeaders.deadReason)).toBe('attempts-exhausted')
    expect(text(headers, ownHeaders.deadAttempts)).toBe('3')
    expect(inbox.database).toBe(database)
    await stage.close()
  })

  it('are asked of the inbox before they condemn: what was done is a duplicate', async () => {
    const { stage, inbox, effects } = await withInbox()
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.started({ topic: Loose, inbox, retry: { attempts: 3 }, handler: effect })
    await stage.settled()
    await stage.sendRaw({ ...envelope, headers: [[ownHeaders.attempt, '99']] })
    await stage.settled()
    expect(effects()).toEqual(['a1'])
    expect(stage.dead(Loose)).toEqual([])
    expect(stage.told('message.duplicate')).toHaveLength(1)
    await stage.close()
  })

  it('that are never counted hold no other message', async () => {
    const { stage, inbox } = await withInbox()
    let silent = 1
    const count = inbox.attempts.started.bind(inbox.attempts)
    Object.assign(inbox.attempts, {
      started: (consumer: string, id: string) =>
        silent-- > 0 ? new Promise(() => undefined) : count(consumer, id),
    })
    const handled: string[] = []
    await stage.started({
      topic: Loose,
      inbox,
      handler: (order, { redelivered }) => {
        handled.push(nameOf(order))
        if (redelivered === 'no') throw new StorageError('storage', 'away', { transient: true })
      },
    })
    await stage.orders('a1 b1', Loose)
    stage.broker.faults.loseSources()
    await stage.clock.advance(29_000)
    expect(handled.toSorted()).toEqual(['a1', 'b1'])
    await stage.settled()
    expect(handled.toSorted()).toEqual(['a1', 'a1', 'b1', 'b1'])
    await stage.close()
  })

  it('that cannot be counted hold the delivery: nothing runs, nothing counts', async () => {
    const { stage, inbox } = await withInbox()
    let runs = 0
    let refusals = 2
    const count = inbox.attempts.started.bind(inbox.attempts)
    Object.assign(inbox.attempts, {
      started: (consumer: string, id: string) =>
        refusals-- > 0
          ? Promise.reject(new StorageError('storage', 'away', { transient: true }))
          : count(consumer, id),
    })
    await stage.orders('a1', Loose)
    stage.broker.faults.redeliver()
    const consumer = stage.consumer({
      topic: Loose,
      inbox,
      handler: () => {
        runs++
        if (runs === 1) throw new Error('no')
      },
    })
    await stage.clock.run(consumer.start())
    stage.broker.faults.redeliver()
    await stage.settled()
    expect(runs).toBeGreaterThanOrEqual(2)
    expect(await stage.depth(Loose)).toBe(0)
    expect(group).toBe('billing')
    await stage.close()
  })
})
