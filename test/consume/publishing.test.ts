import { describe, expect, it } from 'vitest'
import {
  memoryDatabase,
  memoryInbox,
  memoryOutbox,
  type MemoryOptions,
} from '../../adapters/memory/index.ts'
import { topic } from '../../src/contract/topic.ts'
import { constant } from '../../src/policy/backoff.ts'
import type { CommonContext } from '../../src/consume/context.ts'
import { Gate, Loose, nameOf, type Order, Orders, Stage, text } from './stage.ts'

const Receipts = topic<{ readonly of: string }>('receipts')
const topics = { receipts: { groups: ['mail'] } }

function receiptsOf(stage: Stage): string[] {
  return stage.broker.published(Receipts).map(({ payload }) => payload?.of ?? '')
}

describe('what a handler publishes', () => {
  it('is sent after it ended and confirmed before the acknowledgement', async () => {
    const stage = await Stage.open({}, topics)
    const gate = new Gate()
    stage.broker.faults.delayConfirms(300, { match: ({ to }) => isReceipt(to) })
    await stage.started({
      topic: Loose,
      handler: async (order, { publish }) => {
        await publish(Receipts, { of: nameOf(order) })
        await gate.passed
      },
    })
    await stage.orders('a1', Loose)
    expect(receiptsOf(stage)).toEqual([])
    gate.open()
    await stage.clock.advance(299)
    expect(receiptsOf(stage)).toEqual(['a1'])
    expect(stage.crashes).not.toContain('after_ack')
    await stage.clock.advance(2)
    expect(stage.crashes).toContain('after_ack')
    await stage.close()
  })

  it('is not sent when the handler fails', async () => {
    const stage = await Stage.open({}, topics)
    await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      handler: async (order, context) => {
        await context.publish(Receipts, { of: nameOf(order) })
        throw new Error('no')
      },
    })
    await stage.orders('a1', Loose)
    expect(stage.dead(Loose)).toHaveLength(1)
    expect(receiptsOf(stage)).toEqual([])
    await stage.close()
  })

  describe('and is refused', () => {
    const bad = { of: undefined } as never

    /** One message handled so, with one try: whether it was done, and what was an unhandled rejection. */
    async function handled(
      handler: (publish: CommonContext['publish']) => unknown,
    ): Promise<{ dead: string[]; receipts: string[]; unhandled: unknown[] }> {
      const unhandled: unknown[] = []
      const hear = (error: unknown): void => void unhandled.push(error)
      process.on('unhandledRejection', hear)
      const stage = await Stage.open({}, topics)
      await stage.started({
        topic: Loose,
        retry: { attempts: 1 },
        handler: (_order, { publish }) => handler(publish) as void,
      })
      await stage.orders('a1', Loose)
      await stage.settledOf('loose')
      const dead = stage
        .dead(Loose)
        .map(({ headers }) => text(headers, 'holdfast-dead-error') ?? '')
      const receipts = receiptsOf(stage)
      await stage.close()
      process.off('unhandledRejection', hear)
      return { dead, receipts, unhandled }
    }

    it.each<[string, (publish: CommonContext['publish']) => unknown]>([
      ['not awaited', (publish) => void publish(Receipts, bad)],
      ['one of two', (publish) => void [publish(Receipts, { of: 'a1' }), publish(Receipts, bad)]],
      [
        'not awaited by an async handler',
        async (publish) => {
          void publish(Receipts, bad)
          await Promise.resolve()
        },
      ],
      ['awaited', async (publish) => void (await publish(Receipts, bad))],
      ['returned', (publish) => publish(Receipts, bad)],
      [
        'awaited with others',
        (publish) => Promise.all([publish(Receipts, bad), Promise.resolve()]),
      ],
    ])('fails the try: %s', async (_name, handler) => {
      const { dead, receipts, unhandled } = await handled(handler)
      expect(dead).toHaveLength(1)
      expect(dead[0]).toContain('of')
      expect(receipts).toEqual([])
      expect(unhandled).toEqual([])
    })

    it.each<[string, (publish: CommonContext['publish']) => unknown]>([
      [
        'with catch',
        (publish) => publish(Receipts, bad).catch(() => publish(Receipts, { of: 'b' })),
      ],
      [
        'with try',
        async (publish) => {
          const promise = publish(Receipts, bad)
          await Promise.resolve()
          try {
            await promise
          } catch {
            await publish(Receipts, { of: 'b' })
          }
        },
      ],
    ])('is the handler’s affair when it takes it: %s', async (_name, handler) => {
      expect(await handled(handler)).toEqual({ dead: [], receipts: ['b'], unhandled: [] })
    })
  })

  it('has the same ids when it is handled again, others for other messages and places', async () => {
    const stage = await Stage.open({}, topics)
    const ids: string[] = []
    stage.broker.faults.refuseSends({ match: ({ to }) => isReceipt(to), retryable: false })
    await stage.started({
      topic: Loose,
      retry: { backoff: constant(100) },
      handler: async (order, { publish }) => {
        ids.push((await publish(Receipts, { of: `${nameOf(order)} first` })).id)
        ids.push((await publish(Receipts, { of: `${nameOf(order)} second` })).id)
      },
    })
    await stage.orders('a1', Loose)
    await stage.settledOf('loose')
    await stage.orders('a2', Loose)
    await stage.settledOf('loose')
    expect(ids).toHaveLength(6)
    expect(ids.slice(0, 2)).toEqual(ids.slice(2, 4))
    expect(new Set(ids).size).toBe(4)
    expect(ids[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    await stage.close()
  })

  it('carries the trace of the message on', async () => {
    const stage = await Stage.open({}, topics)
    await stage.started({
      topic: Loose,
      handler: (order, { publish }) => publish(Receipts, { of: nameOf(order) }),
    })
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await stage.send(Loose, { customer: 'a', n: 1 }, { headers: { traceparent } })
    const [receipt] = stage.broker.published(Receipts)
    expect(text(receipt!.envelope.headers, 'traceparent')).toBe(traceparent)
    await stage.close()
  })

  it('that cannot be stored for a while costs no attempt', async () => {
    const stage = await Stage.open({}, topics)
    const attempts: number[] = []
    const fault = stage.broker.faults.stall('receipts')
    await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      handler: (order, { publish, attempt }) => {
        attempts.push(attempt)
        return publish(Receipts, { of: nameOf(order) })
      },
    })
    await stage.orders('a1', Loose)
    await stage.clock.advance(100_000)
    fault.end()
    await stage.settledOf('loose')
    expect(fault.hits).toBeGreaterThan(0)
    expect(new Set(attempts)).toEqual(new Set([1]))
    expect(stage.dead(Loose)).toEqual([])
    const ids = stage.broker.published(Receipts).map(({ envelope }) => envelope.id)
    expect(new Set(ids).size).toBe(1)
    await stage.close()
  })

  it('is declared with the groups that were named for it', async () => {
    const stage = await Stage.open({}, topics)
    await stage.started({
      topic: Loose,
      handler: (order, { publish }) => publish(Receipts, { of: nameOf(order) }),
    })
    await stage.orders('a1', Loose)
    const to = { kind: 'group', topic: 'receipts', group: 'mail', delayMs: 0 } as const
    expect(await stage.broker.inspect.depth(to)).toBe(1)
    await stage.close()
  })
})

describe('with inbox and outbox, what a handler publishes', () => {
  it('is committed with the effect, or rolled back with it', async () => {
    const stage = await Stage.open({}, topics)
    const database = memoryDatabase({ clock: stage.clock })
    const outbox = memoryOutbox({ database })
    let failures = 1
    await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      outbox,
      retry: { backoff: constant(100) },
      handler: async (order, { tx, publish }) => {
        tx.add('effects', nameOf(order))
        await publish(Receipts, { of: nameOf(order) })
        if (failures-- > 0) throw new Error('not yet')
      },
    })
    await stage.orders('a1')
    await stage.clock.settle()
    expect((await stage.clock.run(outbox.stats())).pending).toBe(0)
    await stage.settled()
    expect(database.rows('effects')).toHaveLength(1)
    expect((await stage.clock.run(outbox.stats())).pending).toBe(1)
    expect(stage.broker.published(Receipts)).toEqual([])
    await stage.close()
  })

  it('is not there when its commit was rolled back without an answer', async () => {
    const stage = await Stage.open({}, topics)
    const database = memoryDatabase({ clock: stage.clock })
    const outbox = memoryOutbox({ database })
    database.faults.loseCommits('rolled back', 2)
    await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      outbox,
      handler: (order, { publish }) => publish(Receipts, { of: nameOf(order) }),
    })
    await stage.orders('a1')
    await stage.settled()
    expect((await stage.clock.run(outbox.stats())).pending).toBe(1)
    await stage.close()
  })

  it('goes to the outbox in one statement for a batch', async () => {
    const stage = await Stage.open({}, topics)
    const database = memoryDatabase({ clock: stage.clock })
    const outbox = memoryOutbox({ database })
    const sizes: number[] = []
    const append = outbox.append.bind(outbox)
    outbox.append = (tx, rows) => {
      sizes.push(rows.length)
      return append(tx, rows)
    }
    const consumer = stage.consumer({
      topic: Loose,
      inbox: memoryInbox({ database }),
      outbox,
      batch: { maxMessages: 10, maxWaitMs: 10 },
      handler: async (messages, { publish }) => {
        for (const { payload } of messages) await publish(Receipts, { of: nameOf(payload) })
      },
    })
    await stage.orders('a1 a2 a3', Loose)
    await stage.clock.run(consumer.start())
    await stage.settled()
    expect(sizes).toEqual([3])
    await stage.close()
  })
})

describe('with an inbox alone, what a handler publishes', () => {
  it('is confirmed before the commit: no crash after it can lose it', async () => {
    const stage = await Stage.open({}, topics)
    const database = memoryDatabase({ clock: stage.clock })
    stage.broker.faults.delayConfirms(300, { match: ({ to }) => isReceipt(to) })
    await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      handler: async (order, { tx, publish }) => {
        tx.add('effects', nameOf(order))
        await publish(Receipts, { of: nameOf(order) })
      },
    })
    await stage.orders('a1')
    await stage.clock.advance(299)
    expect(receiptsOf(stage)).toEqual(['a1'])
    expect(database.rows('effects')).toEqual([])
    await stage.settledOf('orders')
    expect(database.rows('effects')).toHaveLength(1)
    await stage.close()
  })
})

describe('with an outbox alone, what a handler publishes', () => {
  it('is in the outbox before the acknowledgement', async () => {
    const stage = await Stage.open({}, topics)
    const outbox = memoryOutbox({ database: memoryDatabase({ clock: stage.clock }) })
    await stage.started({
      topic: Loose,
      outbox,
      handler: (order, { publish }) => publish(Receipts, { of: nameOf(order) }),
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect((await stage.clock.run(outbox.stats())).pending).toBe(1)
    await stage.close()
  })
})

describe.each(['any', 'prefix'] as const)('atomic, over %s', (atomicPublish) => {
  const options: MemoryOptions = { capabilities: { atomicPublish } }
  const handler = (order: Order, { publish }: { publish: Publish }): Promise<unknown> =>
    publish(Receipts, { of: nameOf(order) })
  type Publish = (to: typeof Receipts, payload: { of: string }) => Promise<{ id: string }>

  it('publishes and settles in one transaction of the broker', async () => {
    const stage = await Stage.open(options, topics)
    const consumer = stage.consumer({ topic: Orders, atomic: true, handler })
    await stage.orders('a1 b1 a2 b2')
    await stage.clock.run(consumer.start())
    await stage.settledOf('orders')
    expect(receiptsOf(stage).toSorted()).toEqual(['a1', 'a2', 'b1', 'b2'])
    await stage.close()
  })

  it.each(['aborted', 'unknown-committed', 'unknown-aborted'] as const)(
    'has each effect once although the transaction ended %s',
    async (fault) => {
      const stage = await Stage.open(options, topics)
      stage.broker.faults.failTransact(fault)
      const consumer = stage.consumer({
        topic: Orders,
        atomic: true,
        retry: { attempts: 1 },
        handler,
      })
      await stage.orders('a1 b1 a2')
      await stage.clock.run(consumer.start())
      await stage.settledOf('orders')
      expect(receiptsOf(stage).toSorted()).toEqual(['a1', 'a2', 'b1'])
      expect(receiptsOf(stage).indexOf('a1')).toBeLessThan(receiptsOf(stage).indexOf('a2'))
      expect(stage.dead()).toEqual([])
      await stage.close()
    },
  )

  it('gives followers back with a message whose transaction nobody knows', async () => {
    const stage = await Stage.open(options, topics)
    stage.broker.faults.failTransact('unknown-aborted')
    const consumer = stage.consumer({
      topic: Orders,
      atomic: true,
      transactionSize: 1,
      concurrency: 1,
      handler,
    })
    await stage.orders('a1 a2 a3')
    await stage.clock.run(consumer.start())
    await stage.settledOf('orders')
    expect(receiptsOf(stage)).toEqual(['a1', 'a2', 'a3'])
    await stage.close()
  })

  it('leaves a failed message out, and its followers wait', async () => {
    const stage = await Stage.open(options, topics)
    let failures = 1
    const consumer = stage.consumer({
      topic: Orders,
      atomic: true,
      retry: { backoff: constant(100) },
      handler: (order, context) => {
        if (nameOf(order) === 'a2' && failures-- > 0) throw new Error('not yet')
        return handler(order, context)
      },
    })
    await stage.orders('a1 a2 a3')
    await stage.clock.run(consumer.start())
    await stage.settledOf('orders')
    expect(receiptsOf(stage)).toEqual(['a1', 'a2', 'a3'])
    await stage.close()
  })
})

function isReceipt(to: { readonly kind: string; readonly topic?: string }): boolean {
  return to.kind === 'topic' && to.topic === 'receipts'
}
