import { describe, expect, it } from 'vitest'
import { PermanentError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { constant } from '../../src/policy/backoff.ts'
import { isOf } from '../../src/consume/message.ts'
import { Gate, Loose, nameOf, type Order, Orders, Stage, text } from './stage.ts'

describe('a consumer', () => {
  it('handles every message once and acknowledges it after its handler', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const handled: string[] = []
    await stage.started({
      topic: Loose,
      handler: async (order) => {
        await gate.passed
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 a2 b1', Loose)
    expect(await stage.depth(Loose)).toBe(3)
    gate.open()
    await stage.settled()
    expect(handled.toSorted()).toEqual(['a1', 'a2', 'b1'])
    expect(stage.crashes.filter((point) => point === 'after_ack')).toHaveLength(3)
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('runs as many handlers at once as allowed, and no more', async () => {
    const stage = await Stage.open()
    let running = 0
    let most = 0
    const gate = new Gate()
    await stage.started({
      topic: Loose,
      concurrency: 3,
      handler: async () => {
        most = Math.max(most, ++running)
        await gate.passed
        running--
      },
    })
    await stage.orders('a1 a2 a3 a4 a5 a6', Loose)
    expect(running).toBe(3)
    gate.open()
    await stage.settled()
    expect(most).toBe(3)
    await stage.close()
  })

  it('shows a handler the message, its context and no header of its own', async () => {
    const stage = await Stage.open()
    const seen: unknown[] = []
    await stage.started({
      topic: Orders,
      handler: (order, context) => {
        const { message, topic: from, group, id, key, headers, attempt, redelivered } = context
        seen.push({ order, from, group, id, key, headers, attempt, redelivered })
        seen.push([message.type, message.producer, message.contentType, message.timeMs])
        seen.push(context.deadlineMs)
      },
    })
    const options = { id: 'o-1', headers: { color: 'red' }, expiresAt: 9_999_999_999_999 }
    await stage.send(Orders, { customer: 'a', n: 1 }, options)
    expect(seen).toEqual([
      {
        order: { customer: 'a', n: 1 },
        from: 'orders',
        group: 'billing',
        id: 'o-1',
        key: 'a',
        headers: [['color', 'red']],
        attempt: 1,
        redelivered: 'no',
      },
      ['orders', 'stage', 'application/json', 1_700_000_000_000],
      30_000,
    ])
    await stage.close()
  })

  it('consumes several topics with one handler', async () => {
    const stage = await Stage.open()
    const seen: string[] = []
    await stage.started({
      topic: [Orders, Loose],
      handler: (order: Order, { message }) => {
        seen.push(`${message.topic} ${nameOf(order)}`)
        if (isOf(message, Loose)) seen.push(`loose ${message.payload.n}`)
      },
    })
    await stage.orders('a1')
    await stage.orders('a2', Loose)
    expect(seen).toEqual(['orders a1', 'loose a2', 'loose 2'])
    await stage.close()
  })

  it('keeps keys of different topics apart', async () => {
    const stage = await Stage.open()
    const other = topic<Order>('loose', { key: ({ customer }) => customer })
    const gate = new Gate()
    const started: string[] = []
    await stage.started({
      topic: [Orders, other],
      handler: async (_order, { topic: from }) => {
        started.push(from)
        await gate.passed
      },
    })
    await stage.orders('a1')
    await stage.orders('a1', other)
    expect(started).toEqual(['orders', 'loose'])
    gate.open()
    await stage.close()
  })

  it('hands a tombstone over as null', async () => {
    const stage = await Stage.open()
    const seen: unknown[] = []
    await stage.started({ topic: Orders, handler: (order) => void seen.push(order) })
    const envelope = await stage.send(Orders, { customer: 'a', n: 1 })
    await stage.sendRaw({ ...envelope, id: 'gone', body: null })
    expect(seen).toEqual([{ customer: 'a', n: 1 }, null])
    await stage.close()
  })

  it('tells what happens when somebody listens', async () => {
    const stage = await Stage.open()
    await stage.started({ topic: Loose, handler: () => undefined })
    await stage.send(Loose, { customer: 'a', n: 1 }, { id: 'm' })
    const about = { topic: 'loose', group: 'billing', id: 'm', attempt: 1 }
    expect(stage.told('message.delivered')).toMatchObject([{ ...about, redelivered: false }])
    expect(stage.told('message.done')).toMatchObject([{ ...about, durationMs: 0 }])
    await stage.close()
  })

  it('runs middleware around the handler, the first one outermost', async () => {
    const stage = await Stage.open()
    const steps: string[] = []
    await stage.started({
      topic: Loose,
      middleware: [
        async (context, next) => {
          steps.push(`outer ${context.topic}`)
          await next()
          steps.push('outer done')
        },
        async (_context, next) => {
          steps.push('inner')
          await next()
        },
      ],
      handler: () => void steps.push('handler'),
    })
    await stage.orders('a1', Loose)
    expect(steps).toEqual(['outer loose', 'inner', 'handler', 'outer done'])
    expect(await stage.depth(Loose)).toBe(0)
    await stage.close()
  })

  it('counts a middleware that calls next() twice as a failed try', async () => {
    const stage = await Stage.open()
    let runs = 0
    await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      middleware: [
        async (_context, next) => {
          await next()
          await next()
        },
      ],
      handler: () => void runs++,
    })
    await stage.orders('a1', Loose)
    expect(runs).toBe(1)
    const [dead] = stage.dead(Loose)
    expect(text(dead!.headers, 'holdfast-dead-error')).toContain('called next() twice')
    await stage.close()
  })
})

describe('order', () => {
  it('is kept within a key while keys run side by side', async () => {
    const stage = await Stage.open()
    const gates = new Map<string, Gate>()
    const started: string[] = []
    await stage.started({
      topic: Orders,
      handler: async (order) => {
        const gate = new Gate()
        gates.set(nameOf(order), gate)
        started.push(nameOf(order))
        await gate.passed
      },
    })
    await stage.orders('a1 a2 b1 a3 b2')
    expect(started).toEqual(['a1', 'b1'])
    gates.get('b1')?.open()
    await stage.clock.settle()
    expect(started).toEqual(['a1', 'b1', 'b2'])
    gates.get('a1')?.open()
    await stage.clock.settle()
    expect(started).toEqual(['a1', 'b1', 'b2', 'a2'])
    for (const name of ['a2', 'b2']) gates.get(name)?.open()
    await stage.clock.settle()
    gates.get('a3')?.open()
    await stage.settled()
    await stage.close()
  })

  it('is kept while the head of a key is retried, and other keys go on', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    let failures = 3
    await stage.started({
      topic: Orders,
      retry: { attempts: 10, backoff: constant(1_000) },
      handler: (order) => {
        if (nameOf(order) === 'a1' && failures-- > 0) throw new Error('not yet')
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 a2 b1 a3 b2')
    expect(handled).toEqual(['b1', 'b2'])
    await stage.clock.advance(2_999)
    expect(handled).toEqual(['b1', 'b2'])
    await stage.clock.advance(1)
    expect(handled).toEqual(['b1', 'b2', 'a1', 'a2', 'a3'])
    expect(
      stage.told('message.retry').map(({ attempt, via, delayMs }) => [attempt, via, delayMs]),
    ).toEqual([1, 2, 3].map((attempt) => [attempt, 'lane', 1_000]))
    await stage.close()
  })

  it('goes on with the followers of a dead letter only once it is stored', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    const fault = stage.broker.faults.delayConfirms(500, {
      match: ({ to }) => to.kind === 'dead',
    })
    await stage.started({
      topic: Orders,
      handler: (order) => {
        if (nameOf(order) === 'a1') throw new PermanentError('never')
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 a2')
    await stage.clock.advance(499)
    expect(handled).toEqual([])
    await stage.clock.advance(10)
    expect(handled).toEqual(['a2'])
    expect(fault.hits).toBe(1)
    await stage.close()
  })

  it('is given up for a topic whose order the consumer relaxes', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const started: string[] = []
    await stage.started({
      topic: Orders,
      ordering: 'none',
      handler: async (order) => {
        started.push(nameOf(order))
        await gate.passed
      },
    })
    await stage.orders('a1 a2')
    expect(started).toEqual(['a1', 'a2'])
    gate.open()
    await stage.close()
  })
})
