import { describe, expect, it } from 'vitest'
import { memoryDatabase, memoryInbox, type MemoryTransaction } from '../../adapters/memory/index.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { constant } from '../../src/policy/backoff.ts'
import type { BatchResult } from '../../src/consume/handle-batch.ts'
import type { Message } from '../../src/consume/message.ts'
import { Gate, Loose, nameOf, type Order, Orders, Stage, text } from './stage.ts'

type Batch = readonly Message<Order>[]
const names = (batch: Batch): string => batch.map(({ payload }) => nameOf(payload)).join(' ')

async function withInbox(): Promise<{
  stage: Stage
  inbox: ReturnType<typeof memoryInbox>
  effects: () => string[]
  effect: (batch: Batch, context: { readonly tx: MemoryTransaction }) => void
}> {
  const stage = await Stage.open()
  const database = memoryDatabase({ clock: stage.clock })
  const inbox = memoryInbox({ database })
  return {
    stage,
    inbox,
    effects: () => database.rows('effects').map(([, row]) => row as string),
    effect: (batch, { tx }) => {
      for (const { payload } of batch) tx.add('effects', nameOf(payload))
    },
  }
}

describe('a batch handler', () => {
  it('gets what is there at once when it fills a batch, and the rest after the wait', async () => {
    const stage = await Stage.open()
    const batches: [number, string][] = []
    const consumer = stage.consumer({
      topic: Loose,
      batch: { maxMessages: 3, maxWaitMs: 50 },
      handler: (messages) => void batches.push([stage.clock.now() - start, names(messages)]),
    })
    await stage.orders('a1 a2 a3 a4', Loose)
    const start = stage.clock.now()
    await stage.clock.run(consumer.start())
    expect(batches.map(([, batch]) => batch)).toEqual(['a1 a2 a3'])
    await stage.settled()
    expect(batches).toEqual([
      [batches[0]![0], 'a1 a2 a3'],
      [batches[0]![0] + 50, 'a4'],
    ])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('gets messages of a key in order, in one batch or in several that do not overlap', async () => {
    const stage = await Stage.open()
    const gates: Gate[] = []
    const batches: string[] = []
    await stage.started({
      topic: Orders,
      batch: { maxMessages: 2, maxWaitMs: 10 },
      handler: async (messages) => {
        batches.push(names(messages))
        const gate = new Gate()
        gates.push(gate)
        await gate.passed
      },
    })
    await stage.orders('a1 a2 a3 b1')
    await stage.clock.advance(20)
    expect(batches).toEqual(['a1 b1'])
    gates[0]!.open()
    await stage.clock.advance(20)
    expect(batches).toEqual(['a1 b1', 'a2 a3'])
    for (const gate of gates) gate.open()
    await stage.settled()
    await stage.close()
  })

  it('commits one transaction for a batch', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    const handled: string[] = []
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context) => {
        handled.push(names(messages))
        effect(messages, context)
      },
    })
    await stage.orders('a1 a2 b1')
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(handled).toEqual(['a1 b1 a2'])
    expect(effects()).toEqual(['a1', 'b1', 'a2'])
    await stage.close()
  })

  it('may report messages without effect: they alone are tried again', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    const batches: string[] = []
    const consumer = stage.consumer({
      topic: Loose,
      inbox,
      retry: { attempts: 2, backoff: constant(100) },
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context): BatchResult => {
        batches.push(names(messages))
        const failed = messages.filter(({ payload }) => payload.customer === 'b')
        effect(
          messages.filter((message) => !failed.includes(message)),
          context,
        )
        return { failed: failed.map((message) => ({ message, error: new Error('no b') })) }
      },
    })
    await stage.orders('a1 b1 a2', Loose)
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(batches).toEqual(['a1 b1 a2', 'b1'])
    expect(effects()).toEqual(['a1', 'a2'])
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadError)).toBe('Error: no b')
    await stage.close()
  })

  it('that throws has no effect, and its messages are handled one by one', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    const batches: string[] = []
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      concurrency: 1,
      retry: { attempts: 1 },
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context) => {
        batches.push(names(messages))
        effect(messages, context)
        if (names(messages).includes('b1')) throw new Error('b1 is bad')
      },
    })
    const rejections: unknown[] = []
    const run = inbox.run.bind(inbox)
    inbox.run = (messages, mode, work) =>
      run(messages, mode, async (tx, fresh) => {
        try {
          return await work(tx, fresh)
        } catch (error) {
          rejections.push(error)
          throw error
        }
      })
    await stage.orders('a1 b1 c1 a2')
    await stage.clock.run(consumer.start())
    await stage.settled()
    // The batch, and b1 alone: a store could not tell otherwise that nothing of it may stay.
    expect(rejections).toHaveLength(2)
    expect(batches.shift()).toBe('a1 b1 c1 a2')
    expect(batches.toSorted()).toEqual(['a1', 'a2', 'b1', 'c1'])
    expect(effects().toSorted()).toEqual(['a1', 'a2', 'c1'])
    expect(stage.dead()).toHaveLength(1)
    expect(stage.told('message.retry')).toEqual([])
    await stage.close()
  })

  it('that reports a failure before a success of the same key is rolled back as a whole', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    const batches: string[] = []
    let failures = 2
    const consumer = stage.consumer({
      topic: Orders,
      inbox,
      concurrency: 1,
      retry: { backoff: constant(100) },
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context): BatchResult | void => {
        batches.push(names(messages))
        const bad = messages.find(({ payload }) => nameOf(payload) === 'a1')
        if (bad === undefined || failures-- <= 0) return effect(messages, context)
        effect(
          messages.filter((message) => message !== bad),
          context,
        )
        return { failed: [{ message: bad, error: new Error('not yet') }] }
      },
    })
    await stage.orders('a1 a2 b1')
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(batches).toEqual(['a1 b1 a2', 'b1', 'a1', 'a1', 'a2'])
    expect(effects()).toEqual(['b1', 'a1', 'a2'])
    await stage.close()
  })

  it('without an inbox, only the keys out of order are handled again', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    const batches: string[] = []
    let failures = 1
    const consumer = stage.consumer({
      topic: Orders,
      concurrency: 1,
      retry: { backoff: constant(100) },
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages): BatchResult => {
        batches.push(names(messages))
        const failed = messages.filter(({ payload }) => nameOf(payload) === 'a2' && failures-- > 0)
        handled.push(...messages.filter((one) => !failed.includes(one)).map((one) => names([one])))
        return { failed: failed.map((message) => ({ message, error: 'no' })) }
      },
    })
    await stage.orders('a1 a2 a3 b1')
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(batches).toEqual(['a1 b1 a2 a3', 'a2', 'a3'])
    expect(handled).toEqual(['a1', 'b1', 'a3', 'a2', 'a3'])
    await stage.close()
  })

  it.each([
    ['a list', []],
    ['a message it was not given', { failed: [{ message: {}, error: 'x' }] }],
  ])('whose report cannot be read has failed: %s', async (_what, report) => {
    const { stage, inbox, effects, effect } = await withInbox()
    await stage.started({
      topic: Loose,
      inbox,
      retry: { attempts: 1 },
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context) => {
        effect(messages, context)
        return report as never
      },
    })
    await stage.orders('a1 a2', Loose)
    await stage.settled()
    expect(effects()).toEqual([])
    expect(stage.dead(Loose)).toHaveLength(2)
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadError)).toContain('batch handler')
    await stage.close()
  })

  it('skips duplicates and does not let their followers overtake', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    const first = await stage.send(Orders, { customer: 'a', n: 1 })
    await stage.sendRaw(first)
    await stage.orders('a2 b1')
    await stage.started({
      topic: Orders,
      inbox,
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: effect,
    })
    await stage.settled()
    expect(effects().toSorted()).toEqual(['a1', 'a2', 'b1'])
    expect(effects().indexOf('a1')).toBeLessThan(effects().indexOf('a2'))
    await stage.close()
  })

  it('leaves poison out of the batch', async () => {
    const stage = await Stage.open()
    const batches: string[] = []
    const good = await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.sendRaw({ ...good, id: 'bad', body: Buffer.from('{') })
    await stage.orders('a2', Loose)
    await stage.started({
      topic: Loose,
      batch: { maxMessages: 3, maxWaitMs: 10 },
      handler: (messages) => void batches.push(names(messages)),
    })
    await stage.settled()
    expect(batches).toEqual(['a1 a2'])
    expect(stage.dead(Loose)).toHaveLength(1)
    await stage.close()
  })

  it('dead-letters a message that throws a PermanentError alone', async () => {
    const { stage, inbox, effects, effect } = await withInbox()
    await stage.started({
      topic: Loose,
      inbox,
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: (messages, context) => {
        effect(messages, context)
        if (names(messages).includes('b')) throw new PermanentError('no b')
      },
    })
    await stage.orders('a1 b1 a2', Loose)
    await stage.settled()
    expect(effects().toSorted()).toEqual(['a1', 'a2'])
    expect(text(stage.dead(Loose)[0]!.headers, ownHeaders.deadReason)).toBe('permanent')
    await stage.close()
  })
})
