import { createHook } from 'node:async_hooks'

import { describe, expect, it } from 'vitest'
import { z } from 'zod'

import { CONFIRMED, type SendOutcome } from '../../src/contract/broker.ts'
import {
  ClosedError,
  HoldfastError,
  OptionError,
  SchemaError,
  UnroutableError,
} from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import type { PublisherOptions } from '../../src/publish/options.ts'
import { refused, unknown } from '../support/scripted-broker.ts'
import { Notes, Orders, Stage } from './stage.ts'

const confirming = { answer: () => CONFIRMED }
const order = { customer: 'c-9', n: 1 }

describe('open', () => {
  const never = (): Promise<never> => new Promise(() => undefined)

  it('does not wait longer for a broker that never answers than it was told to', async () => {
    const stage = new Stage(confirming)
    stage.broker.opening = never
    const message = (open: Promise<void>): Promise<string> =>
      open.then(
        () => 'open',
        (error: Error & { code?: string }) => `${error.code}: ${error.message}`,
      )
    const short = message(stage.publisher.open({ timeoutMs: 200 }))
    const usual = message(stage.publisher.open())
    await stage.clock.advance(200)
    expect(await short).toBe('timeout: opening the publisher did not end within 200 ms')
    await stage.clock.advance(29_800)
    expect(await usual).toBe('timeout: opening the publisher did not end within 30000 ms')
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('opens in the background what did not open in time', async () => {
    const stage = new Stage(confirming)
    let isUp = false
    stage.broker.opening = () =>
      isUp ? Promise.resolve() : Promise.reject(new HoldfastError('unavailable', 'down'))
    const opened = stage.publisher.open({ timeoutMs: 200 }).catch((error: unknown) => error)
    await stage.clock.advance(200)
    expect(await opened).toMatchObject({ code: 'timeout' })
    isUp = true
    await stage.clock.run(stage.publisher.open())
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('takes no time that is none', async () => {
    const stage = new Stage(confirming)
    await expect(stage.publisher.open({ timeoutMs: 0 })).rejects.toThrow(/open\.timeoutMs: got 0/)
  })
})

describe('publish', () => {
  it('resolves with what was stored, and how', async () => {
    const at = { partition: 3, offset: '17' }
    const stage = new Stage({ answer: () => ({ status: 'confirmed', at }) })
    expect(await stage.clock.run(stage.publisher.publish(Orders, order, { id: 'o-1' }))).toEqual({
      id: 'o-1',
      topic: 'orders',
      key: 'c-9',
      via: 'broker',
      partition: 3,
      offset: '17',
      attempts: 1,
      possiblyDuplicated: false,
    })
    expect(stage.broker.last.bodies).toEqual([order])
  })

  it('names the key also where it does not order', async () => {
    const stage = new Stage(confirming)
    const loose = topic<{ k: string }>('notes', { key: ({ k }) => k, ordering: 'none' })
    const { key, partition } = await stage.clock.run(stage.publisher.publish(loose, { k: 'ä' }))
    expect([key, partition]).toEqual(['ä', undefined])
    expect((await stage.clock.run(stage.publisher.publish(Notes, 1, {}))).key).toBeNull()
  })

  it('says when it may be stored twice, with one id', async () => {
    let attempt = 0
    const stage = new Stage({ answer: () => (++attempt === 1 ? unknown() : CONFIRMED) })
    const published = await stage.clock.run(stage.publisher.publish(Orders, order))
    expect(published).toMatchObject({ attempts: 2, possiblyDuplicated: true })
    expect(new Set(stage.broker.sends.flatMap(({ ids }) => ids))).toEqual(new Set([published.id]))
  })

  it('declares the groups of its topics before the first message', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publish(Orders, order))
    expect(stage.broker.provisioned).toEqual([
      {
        topics: [
          {
            name: 'orders',
            groups: ['billing'],
            partitions: null,
            ordering: 'key',
            retryLevelsMs: [1_000, 5_000, 30_000, 120_000, 300_000],
          },
        ],
      },
    ])
  })

  it('declares nothing where it was told so, or not told of the topic', async () => {
    const stage = new Stage({ ...confirming, topology: 'none' })
    await stage.clock.run(stage.publisher.publish(Orders, order))
    const other = new Stage({ ...confirming, topics: { orders: { partitions: 3 } } })
    await other.clock.run(other.publisher.publish(Orders, order))
    await other.clock.run(other.publisher.publish(Notes, 1))
    expect([stage.broker.provisioned, other.broker.provisioned]).toEqual([[], []])
  })

  it('tells the broker what it was told of topics that it does not declare', async () => {
    const told = async (given: Partial<PublisherOptions<never>>): Promise<unknown> => {
      const { clock, publisher, broker } = new Stage({ ...confirming, ...given })
      await clock.run(publisher.publish(Orders, order))
      return broker.assumed.flatMap(({ topics }) => topics.map((one) => [one.name, one.partitions]))
    }
    const topics = { orders: { groups: ['billing'], partitions: 3 } }
    expect(await told({ topology: 'none', topics })).toEqual([['orders', 3]])
    expect(await told({ topics: { orders: { partitions: 3 } } })).toEqual([['orders', 3]])
    expect(await told({ topics: {} })).toEqual([])
    expect(await told({ topics })).toEqual([])
  })

  it('refuses what goes to a topic of which the broker was told otherwise before', async () => {
    const stage = new Stage({ ...confirming, topology: 'none' })
    stage.broker.assume = () => {
      throw new HoldfastError('topology', 'two numbers of partitions')
    }
    await expect(stage.clock.run(stage.publisher.publish(Orders, order))).rejects.toMatchObject({
      name: 'PublishRefusedError',
      code: 'topology',
    })
  })

  it('works while the broker is down: waits for it within its deadline', async () => {
    const stage = new Stage(confirming)
    let isUp = false
    stage.broker.opening = () =>
      isUp ? Promise.resolve() : Promise.reject(new HoldfastError('unavailable', 'down'))
    const late = stage.publisher.publish(Orders, order)
    const early = stage.publisher
      .publish(Orders, order, { deadlineMs: 4_000 })
      .catch((error: unknown) => error)
    await stage.clock.advance(4_000)
    expect(await early).toMatchObject({ name: 'PublishRefusedError', code: 'not-sent' })
    isUp = true
    expect(await stage.clock.run(late)).toMatchObject({ via: 'broker', attempts: 1 })
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('refuses a payload that does not fit, before anything is sent', async () => {
    const stage = new Stage(confirming)
    const typed = topic('notes', { schema: z.object({ cents: z.number().int() }) })
    const wrong = stage.publisher.publish(typed, { cents: 1.5 })
    await expect(wrong).rejects.toBeInstanceOf(SchemaError)
    await expect(wrong).rejects.toThrow('payload does not fit the schema of topic "notes": cents')
    await stage.clock.settle()
    expect(stage.broker.opens).toBe(0)
  })

  it.each(['orders', undefined, null, {}])('refuses %o as a topic', async (wrong) => {
    const stage = new Stage(confirming)
    const call = stage.publisher.publish(wrong as never, 1)
    await expect(call).rejects.toMatchObject({ code: 'topic' })
    await expect(call).rejects.toThrow('the first argument has to be made by topic("…")')
  })

  it('refuses two topics of one name that order differently', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publish(Orders, order))
    const call = stage.publisher.publish(topic('orders'), 1)
    await expect(call).rejects.toThrow(
      `ordering of topic "orders": got "none"; allowed: 'key', as published before`,
    )
  })

  it('refuses a topic whose order the broker cannot keep', async () => {
    const stage = new Stage({ ...confirming, capabilities: { ordering: ['partition', 'none'] } })
    const call = stage.publisher.publish(Orders, order).catch((error: unknown) => error)
    await stage.clock.settle()
    expect(await call).toMatchObject({
      code: 'capability',
      message: expect.stringContaining(
        'topic "orders" is ordered by key, which this broker does not keep; it keeps: partition, none',
      ),
    })
    expect(stage.broker.sends).toEqual([])
  })

  it.each<[object | null, string]>([
    [{ deadlineMs: 0 }, 'publish.deadlineMs: got 0'],
    [{ deadlineMs: '1s' }, 'publish.deadlineMs: got "1s"'],
    [{ signal: {} }, 'publish.signal: got an object'],
    [{ keey: 'x' }, 'publish.keey: got "x"'],
    [null, 'publish: got null; allowed: an object'],
  ])('refuses options %o', async (options, text) => {
    const stage = new Stage(confirming)
    const call = stage.publisher.publish(Orders, order, options as object)
    await expect(call).rejects.toBeInstanceOf(OptionError)
    await expect(call).rejects.toThrow(text)
  })

  it('costs one promise, nothing more', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publish(Orders, order))
    let promises = 0
    const hook = createHook({ init: (_id, type) => void (type === 'PROMISE' && promises++) })
    const all: Promise<unknown>[] = []
    hook.enable()
    for (let n = 0; n < 100; n++) all.push(stage.publisher.publish(Orders, order))
    hook.disable()
    expect(promises).toBe(100)
    await stage.clock.run(Promise.all(all))
  })
})

describe('publishBatch', () => {
  it('resolves with one outcome per message, in order, whatever became of each', async () => {
    const typed = topic('notes', { schema: z.string() })
    const answers: Record<string, SendOutcome> = {
      lost: unknown(),
      refused: refused('unroutable', false),
    }
    const stage = new Stage({
      answer: ({ body }) => answers[JSON.parse(Buffer.from(body ?? []).toString())] ?? CONFIRMED,
      deadlineMs: 500,
    })
    const payloads = ['one', 'refused', 5 as never, 'lost', 'two']
    const outcomes = await stage.clock.run(stage.publisher.publishBatch(typed, payloads))
    expect(outcomes.map(({ status }) => status)).toEqual([
      'confirmed',
      'refused',
      'refused',
      'unknown',
      'confirmed',
    ])
    expect(outcomes[1]).toMatchObject({ error: expect.any(UnroutableError) })
    expect(outcomes[2]).toMatchObject({ error: expect.any(SchemaError) })
    expect(outcomes[4]).toMatchObject({ published: { topic: 'notes', via: 'broker' } })
  })

  it('sends everything of a small batch at once', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publishBatch(Notes, [1, 2, 3]))
    expect(stage.broker.sends.map(({ bodies }) => bodies)).toEqual([[1, 2, 3]])
  })

  it('takes a batch that is larger than the buffer, a window at a time', async () => {
    const stage = new Stage({ ...confirming, buffer: { messages: 10, whenFull: 'fail' } })
    const payloads = Array.from({ length: 95 }, (_, n) => n)
    const outcomes = await stage.clock.run(stage.publisher.publishBatch(Notes, payloads))
    expect(outcomes.every(({ status }) => status === 'confirmed')).toBe(true)
    expect(stage.broker.sends.flatMap(({ bodies }) => bodies)).toEqual(payloads)
    expect(Math.max(...stage.broker.sends.map(({ batch }) => batch.length))).toBe(10)
  })

  it('takes options for all or for each', async () => {
    const stage = new Stage(confirming)
    const ids = ['a', 'b']
    await stage.clock.run(stage.publisher.publishBatch(Notes, ids, (id) => ({ id: String(id) })))
    expect(stage.broker.last.ids).toEqual(ids)
    const headers = { source: 'import' }
    await stage.clock.run(stage.publisher.publishBatch(Notes, ids, { headers }))
    expect(stage.broker.last.batch.map((one) => one.headers)).toEqual([
      [['source', 'import']],
      [['source', 'import']],
    ])
  })

  it('refuses one id for all, and payloads that are no list', async () => {
    const stage = new Stage(confirming)
    const same = stage.publisher.publishBatch(Notes, [1, 2], { id: 'x' } as object)
    await expect(same).rejects.toThrow('publishBatch.id: got "the same for all"')
    const none = stage.publisher.publishBatch(Notes, 'abc' as never)
    await expect(none).rejects.toThrow('payloads: got "abc"; allowed: a list')
  })

  it('of nothing resolves with nothing', async () => {
    const stage = new Stage(confirming)
    expect(await stage.publisher.publishBatch(Notes, [])).toEqual([])
  })

  it('costs two promises, however long it is', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publish(Notes, 0))
    const payloads = Array.from({ length: 1_000 }, (_, n) => n)
    let promises = 0
    const hook = createHook({ init: (_id, type) => void (type === 'PROMISE' && promises++) })
    hook.enable()
    const batch = stage.publisher.publishBatch(Notes, payloads)
    hook.disable()
    expect(promises).toBeLessThanOrEqual(3)
    await stage.clock.run(batch)
  })
})

describe('flush', () => {
  it('waits for everything published before, batches too', async () => {
    const stage = new Stage({ buffer: { messages: 2 } })
    const batch = stage.publisher.publishBatch(Notes, [1, 2, 3])
    let flushed = false
    const flush = stage.publisher.flush().then(() => (flushed = true))
    await stage.clock.settle()
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect([flushed, stage.broker.last.bodies]).toEqual([false, [3]])
    stage.broker.last.confirm()
    await stage.clock.run(Promise.all([flush, batch]))
  })

  it('rejects when that takes too long', async () => {
    const stage = new Stage()
    const published = stage.publisher.publish(Notes, 1).catch((error: Error) => error.name)
    const flush = stage.publisher.flush({ timeoutMs: 700 }).catch((error: unknown) => error)
    await stage.clock.advance(700)
    expect(await flush).toMatchObject({ code: 'timeout' })
    await stage.clock.run(published)
  })
})

describe('close', () => {
  it('tells each publish its fate and refuses later ones', async () => {
    const stage = new Stage()
    await stage.clock.run(stage.publisher.open())
    const sent = stage.publisher.publish(Orders, order).catch((error: Error) => error.name)
    await stage.clock.settle()
    const unsent = stage.publisher.publish(Orders, order).catch((error: unknown) => error)
    const close = stage.publisher.close({ timeoutMs: 1_000 })
    expect(stage.publisher.close()).toBe(close)
    await stage.clock.run(close)
    expect(await sent).toBe('OutcomeUnknownError')
    expect(await unsent).toMatchObject({ name: 'PublishRefusedError', code: 'not-sent' })
    await expect(stage.publisher.publish(Orders, order)).rejects.toBeInstanceOf(ClosedError)
    await expect(stage.publisher.publishBatch(Orders, [order])).rejects.toBeInstanceOf(ClosedError)
    await expect(stage.publisher.open()).rejects.toBeInstanceOf(ClosedError)
    expect([stage.broker.closed.length, stage.clock.timers]).toEqual([1, 0])
  })

  it('ends a batch that is under way, the rest of it refused', async () => {
    const stage = new Stage({ buffer: { messages: 1 } })
    const batch = stage.publisher.publishBatch(Notes, [1, 2, 3])
    await stage.clock.settle()
    await stage.clock.run(stage.publisher.close({ timeoutMs: 100 }))
    expect((await batch).map(({ status }) => status)).toEqual(['unknown', 'refused', 'refused'])
  })

  it('does not hang on a broker that does not close', async () => {
    const stage = new Stage(confirming)
    await stage.clock.run(stage.publisher.publish(Notes, 1))
    stage.broker.close = () => new Promise(() => undefined)
    await stage.clock.run(stage.publisher.close({ timeoutMs: 500 }))
    expect(stage.clock.now()).toBe(500)
    expect(stage.of('warning').map(({ code }) => code)).toEqual(['close'])
    expect(stage.clock.timers).toBe(0)
  })

  it('comes after a flush when the publisher is disposed of', async () => {
    const stage = new Stage()
    const published = stage.publisher.publish(Notes, 1)
    const disposed = stage.publisher[Symbol.asyncDispose]()
    await stage.clock.settle()
    stage.broker.last.confirm()
    expect(await published).toMatchObject({ via: 'broker' })
    await stage.clock.run(disposed)
    await stage.clock.run(stage.publisher[Symbol.asyncDispose]())
    expect(stage.broker.closed).toHaveLength(1)
  })
})
