import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it } from 'vitest'
import { ownHeaders } from '../../src/contract/headers.ts'
import { constant } from '../../src/policy/backoff.ts'
import { Gate, Loose, nameOf, Orders, Stage, text } from './stage.ts'

describe('a handler that does not end in time', () => {
  it('is told by its signal, and its try has failed', async () => {
    const stage = await Stage.open()
    const reasons: unknown[] = []
    const starts: number[] = []
    await stage.started({
      topic: Loose,
      handlerTimeoutMs: 500,
      retry: { backoff: constant(100) },
      handler: (_order, { signal, attempt }) => {
        starts.push(stage.clock.now())
        if (attempt > 1) return undefined
        return new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reasons.push((signal.reason as { code: string }).code)
            reject(signal.reason as Error)
          })
        })
      },
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(reasons).toEqual(['handler-timeout'])
    expect(starts[1]! - starts[0]!).toBe(600)
    expect(stage.told('message.retry')).toMatchObject([
      { attempt: 1, error: { code: 'handler-timeout' } },
    ])
    expect(stage.told('handler.stuck')).toEqual([])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('keeps its key closed until it really ended, and is told of again and again', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const started: string[] = []
    await stage.started({
      topic: Orders,
      handlerTimeoutMs: 100,
      retry: { backoff: constant(10) },
      handler: async (order, { attempt }) => {
        started.push(`${nameOf(order)} try ${attempt}`)
        if (order.customer === 'a' && attempt === 1) await gate.passed
      },
    })
    await stage.orders('a1 b1')
    await stage.clock.advance(1_000)
    expect(started).toEqual(['a1 try 1', 'b1 try 1'])
    expect(stage.told('handler.stuck').map(({ forMs }) => forMs)).toEqual(
      [2, 3, 4, 5, 6, 7, 8, 9, 10].map((times) => times * 100),
    )
    gate.open()
    await stage.settled()
    expect(started).toEqual(['a1 try 1', 'b1 try 1', 'a1 try 2'])
    expect(stage.told('handler.stuck')).toHaveLength(9)
    await stage.close()
  })

  it('keeps its key closed although its message is a dead letter by now', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const started: string[] = []
    await stage.started({
      topic: Orders,
      handlerTimeoutMs: 100,
      retry: { attempts: 1 },
      handler: async (order) => {
        started.push(nameOf(order))
        if (order.n === 1) await gate.passed
      },
    })
    await stage.orders('a1 a2')
    await stage.clock.advance(1_000)
    expect(text(stage.dead()[0]!.headers, ownHeaders.deadError)).toContain('did not end within 100')
    expect(started).toEqual(['a1'])
    gate.open()
    await stage.settled()
    expect(started).toEqual(['a1', 'a2'])
    await stage.close()
  })

  it('holds its place until it really ended, so that stuck handlers are bounded', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    let started = 0
    await stage.started({
      topic: Loose,
      handlerTimeoutMs: 100,
      concurrency: 2,
      retry: { attempts: 1 },
      handler: async () => {
        started++
        await gate.passed
      },
    })
    await stage.orders('a1 a2 a3 a4', Loose)
    await stage.clock.advance(5_000)
    expect(started).toBe(2)
    gate.open()
    await stage.clock.advance(1)
    expect(started).toBe(4)
    await stage.close()
  })

  it('cannot use its context any more', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const errors: unknown[] = []
    await stage.started({
      topic: Loose,
      handlerTimeoutMs: 100,
      retry: { attempts: 1 },
      handler: async (order, { publish }) => {
        await gate.passed
        await publish(Orders, order).catch((error: unknown) => errors.push(error))
      },
    })
    await stage.orders('a1', Loose)
    await stage.clock.advance(200)
    gate.open()
    await stage.clock.settle()
    expect(errors).toMatchObject([{ code: 'closed' }])
    expect(stage.broker.published(Orders)).toEqual([])
    await stage.close()
  })
})

describe('the deadline of handlers', () => {
  it('takes one timer, however many run', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const before = stage.clock.timers
    await stage.started({ topic: Loose, concurrency: 100, handler: () => gate.passed })
    for (let n = 0; n < 100; n++) await stage.send(Loose, { customer: 'a', n })
    expect(stage.clock.timers - before).toBe(1)
    gate.open()
    await stage.settled()
    await stage.close()
  })

  it('counts down in the context', async () => {
    const stage = await Stage.open()
    const left: number[] = []
    await stage.started({
      topic: Loose,
      handlerTimeoutMs: 1_000,
      handler: async (_order, context) => {
        left.push(context.deadlineMs)
        await new Promise<void>((resolve) => stage.clock.after(400, resolve))
        left.push(context.deadlineMs)
      },
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(left).toEqual([1_000, 600])
    await stage.close()
  })

  it('makes no signal unless it is read, and an aborted one when it is read too late', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const aborted: boolean[] = []
    await stage.started({
      topic: Loose,
      handlerTimeoutMs: 100,
      retry: { attempts: 1 },
      handler: async (_order, context) => {
        await gate.passed
        aborted.push(context.signal.aborted)
      },
    })
    await stage.orders('a1', Loose)
    await stage.clock.advance(150)
    gate.open()
    await stage.clock.settle()
    expect(aborted).toEqual([true])
    await stage.close()
  })
})

describe('a synchronous handler', () => {
  it('may return anything but a promise', async () => {
    const stage = await Stage.open()
    await stage.started({ topic: Loose, handler: (order) => ({ then: order.n }) })
    await stage.orders('a1', Loose)
    expect(await stage.depth(Loose)).toBe(0)
    await stage.close()
  })

  it.each([
    ['a getter', Object.defineProperty({}, 'then', { get: () => fail('no then') })],
    ['a method', { then: () => fail('no then') }],
  ])('may return something whose then throws, by %s: that is a failed try', async (_how, value) => {
    const stage = await Stage.open()
    await stage.started({ topic: Loose, retry: { attempts: 1 }, handler: () => value })
    await stage.orders('a1', Loose)
    const { headers } = stage.dead(Loose)[0]!
    expect(text(headers, ownHeaders.deadError)).toBe('Error: no then')
    await stage.close()
  })

  it('may return a promise of another make', async () => {
    const stage = await Stage.open()
    const handled: number[] = []
    await stage.started({
      topic: Loose,
      handler: (order) => ({
        // eslint-disable-next-line unicorn/no-thenable -- what some query builders return
        then: (resolve: () => void) => {
          handled.push(order.n)
          resolve()
        },
      }),
    })
    await stage.orders('a1', Loose)
    expect(handled).toEqual([1])
    expect(await stage.depth(Loose)).toBe(0)
    await stage.close()
  })
})

describe('a handler', () => {
  it('runs in the async context the consumer was started in, whoever resumes it', async () => {
    const stage = await Stage.open()
    const storage = new AsyncLocalStorage<string>()
    const seen: unknown[] = []
    const consumer = stage.consumer({
      topic: Loose,
      handler: (order) => {
        seen.push(storage.getStore())
        if (order.n === 1) {
          storage.run('inside a handler', () => {
            consumer.pause()
            consumer.resume()
          })
        }
      },
    })
    await storage.run('start', () => stage.clock.run(consumer.start()))
    consumer.pause()
    await stage.orders('a1 a2 a3', Loose)
    storage.run('somebody', () => consumer.resume())
    await stage.settled()
    expect(seen).toEqual(['start', 'start', 'start'])
    await stage.close()
  })

  it.each([
    ['nothing that is a number', () => Number.NaN],
    ['less than nothing', () => -5],
    ['for ever', () => Number.POSITIVE_INFINITY],
  ])('whose back-off answers %s is retried all the same', async (_what, delayFor) => {
    const stage = await Stage.open()
    const attempts: number[] = []
    await stage.started({
      topic: Orders,
      retry: { attempts: 2, backoff: { delayFor } },
      handler: (_order, { attempt }) => {
        attempts.push(attempt)
        throw new Error('no')
      },
    })
    await stage.orders('a1')
    await stage.clock.advance(366 * 86_400_000)
    expect(attempts).toEqual([1, 2])
    expect(stage.dead()).toHaveLength(1)
    await stage.close()
  })

  it('whose back-off throws keeps its message held, with a warning', async () => {
    const stage = await Stage.open()
    let failures = 1
    const attempts: number[] = []
    await stage.started({
      topic: Orders,
      retry: {
        backoff: {
          delayFor: () => {
            if (failures-- > 0) throw new Error('no delay')
            return 100
          },
        },
      },
      handler: (_order, { attempt }) => {
        attempts.push(attempt)
        if (attempts.length < 3) throw new Error('no')
      },
    })
    await stage.orders('a1 b1')
    await stage.settled()
    expect(attempts).toHaveLength(4)
    expect(stage.told('warning')).toMatchObject([
      { code: 'internal', message: 'consuming failed: no delay' },
    ])
    await stage.close()
  })
})

function fail(message: string): never {
  throw new Error(message)
}
