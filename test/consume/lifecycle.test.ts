import { describe, expect, it } from 'vitest'
import { memory, memoryDatabase, memoryInbox } from '../../adapters/memory/index.ts'
import type { Topology } from '../../src/contract/topology.ts'
import { constant } from '../../src/policy/backoff.ts'
import { ReliableConsumer } from '../../src/consume/consumer.ts'
import { Gate, Loose, nameOf, Orders, Stage } from './stage.ts'

describe('a consumer that is closed while it starts', () => {
  const turns = Array.from({ length: 30 }, (_, at) => at)

  it.each(turns)('leaves nothing open: %i steps after it began to receive', async (steps) => {
    const stage = new Stage()
    const receive = stage.broker.receive.bind(stage.broker)
    let closed: Promise<void> | null = null
    const consumer = stage.consumer({ topic: Orders, handler: () => undefined })
    stage.broker.receive = (subscription, sink) => {
      const receiver = receive(subscription, sink)
      void receiver.then(async () => {
        for (let step = 0; step < steps; step++) await Promise.resolve()
        closed = consumer.close()
      })
      return receiver
    }
    const started = consumer.start().then(
      () => 'started',
      (error: Error) => error.name,
    )
    await stage.clock.until(() => closed !== null)
    await stage.clock.run(closed as never)
    const outcome = await stage.clock.run(started)
    expect(consumer.state).toBe('closed')
    expect(['started', 'ClosedError']).toContain(outcome)
    const states: string[] = []
    stage.broker.onState(({ status }) => states.push(status))()
    expect(states).toEqual(['down'])
    expect(stage.clock.timers).toBe(0)
  })

  it('is closed in time although the broker does not close', async () => {
    const stage = new Stage()
    stage.broker.receive = () => new Promise(() => undefined)
    stage.broker.close = () => new Promise(() => undefined)
    const consumer = stage.consumer({ topic: Orders, handler: () => undefined })
    const started = consumer.start().catch((error: Error) => error.name)
    await stage.clock.settle()
    await stage.clock.run(consumer.close({ timeoutMs: 100 }))
    expect(stage.clock.now()).toBeLessThanOrEqual(100)
    expect(consumer.state).toBe('closed')
    expect(await stage.clock.run(started)).toBe('ClosedError')
    expect(consumer.state).toBe('closed')
    expect(stage.clock.timers).toBe(0)
  })
})

describe('drain', () => {
  it('lets handlers finish, gives back what has not started, and flushes', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const handled: string[] = []
    const consumer = await stage.started({
      topic: Loose,
      concurrency: 2,
      handler: async (order) => {
        await gate.passed
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 a2 a3', Loose)
    const drained = consumer.drain()
    expect(consumer.state).toBe('stopping')
    await stage.clock.advance(1_000)
    expect(consumer.state).toBe('stopping')
    gate.open()
    await stage.clock.run(drained)
    expect(handled).toEqual(['a1', 'a2'])
    expect(await consumer.closed).toBeUndefined()
    expect(await stage.depth(Loose)).toBe(1)
    expect(stage.settles.map((settle) => settle.split(' ')[0])).toEqual(['ack', 'ack', 'release'])
    expect(stage.told('consumer.ended')).toEqual([
      { type: 'consumer.ended', group: 'billing', error: null },
    ])
    const next = await stage.started({
      topic: Loose,
      handler: (order) => void handled.push(nameOf(order)),
    })
    await stage.settled()
    expect(handled).toEqual(['a1', 'a2', 'a3'])
    await stage.clock.run(next.drain())
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('aborts handlers in time, and releases what they gave up without counting', async () => {
    const stage = await Stage.open()
    const aborted: string[] = []
    const consumer = await stage.started({
      topic: Orders,
      handlerTimeoutMs: 100_000,
      handler: (_order, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted.push((signal.reason as Error).message)
            reject(signal.reason as Error)
          })
        }),
    })
    await stage.orders('a1 a2')
    const before = stage.clock.now()
    await stage.clock.run(consumer.drain({ timeoutMs: 1_000 }))
    expect(stage.clock.now() - before).toBeLessThanOrEqual(1_000)
    expect(aborted).toHaveLength(1)
    const attempts: number[] = []
    await stage.started({
      topic: Orders,
      handler: (_order, { attempt }) => void attempts.push(attempt),
    })
    await stage.settled()
    expect(attempts).toEqual([1, 1])
    await stage.close()
  })

  it('is over by its deadline although a handler never ends', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({
      topic: Loose,
      handler: () => new Promise(() => undefined),
    })
    await stage.orders('a1', Loose)
    const before = stage.clock.now()
    await stage.clock.run(consumer.drain({ timeoutMs: 2_000 }))
    expect(stage.clock.now() - before).toBeLessThanOrEqual(2_000)
    expect(await stage.depth(Loose)).toBe(1)
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('waits for dead letters on their way', async () => {
    const stage = await Stage.open()
    stage.broker.faults.delayConfirms(500, { match: ({ to }) => to.kind === 'dead' })
    const consumer = await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      handler: () => {
        throw new Error('no')
      },
    })
    await stage.orders('a1', Loose)
    await stage.clock.run(consumer.drain())
    expect(stage.dead(Loose)).toHaveLength(1)
    expect(await stage.depth(Loose)).toBe(0)
    await stage.close()
  })

  it('gives back a message whose dead letter cannot be stored', async () => {
    const stage = await Stage.open()
    stage.broker.faults.refuseSends({
      match: ({ to }) => to.kind === 'dead',
      times: Number.POSITIVE_INFINITY,
      retryable: false,
    })
    const consumer = await stage.started({
      topic: Loose,
      retry: { attempts: 1 },
      handler: () => {
        throw new Error('no')
      },
    })
    await stage.orders('a1', Loose)
    await stage.clock.run(consumer.drain({ timeoutMs: 3_000 }))
    expect(await stage.depth(Loose)).toBe(1)
    expect(stage.dead(Loose)).toEqual([])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('gives back what waits for its retry', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({
      topic: Orders,
      retry: { backoff: constant(60_000) },
      handler: () => {
        throw new Error('no')
      },
    })
    await stage.orders('a1 a2')
    const before = stage.clock.now()
    await stage.clock.run(consumer.drain())
    expect(stage.clock.now() - before).toBeLessThan(100)
    expect(await stage.depth()).toBe(2)
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('is the same however often it is called, and what dispose means', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({ topic: Loose, handler: () => undefined })
    await stage.clock.run(
      Promise.all([consumer.drain(), consumer[Symbol.asyncDispose](), consumer.close()]),
    )
    await consumer.drain()
    await consumer.close()
    expect(stage.told('consumer.ended')).toHaveLength(1)
    await expect(consumer.start()).rejects.toThrow('the consumer is closed')
    await stage.close()
  })

  it('says what could not be flushed', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({ topic: Loose, handler: () => undefined })
    stage.broker.faults.missSettles(1)
    await stage.orders('a1', Loose)
    await stage.clock.run(consumer.drain())
    expect(stage.told('settle.failed')).toMatchObject([{ error: { code: 'settle' } }])
    await stage.close()
  })
})

describe('close', () => {
  it('aborts handlers now, and is over soon', async () => {
    const stage = await Stage.open()
    let aborted = 0
    const consumer = await stage.started({
      topic: Loose,
      handler: (_order, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted = stage.clock.now()
            reject(signal.reason as Error)
          })
        }),
    })
    await stage.orders('a1', Loose)
    const before = stage.clock.now()
    await stage.clock.run(consumer.close())
    expect(aborted - before).toBeLessThan(10)
    expect(stage.clock.now() - before).toBeLessThan(1_000)
    expect(await stage.depth(Loose)).toBe(1)
    await stage.close()
  })

  it('hurries a drain that is under way', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({
      topic: Loose,
      handler: () => new Promise(() => undefined),
    })
    await stage.orders('a1', Loose)
    const drained = consumer.drain({ timeoutMs: 600_000 })
    await stage.clock.advance(1_000)
    const before = stage.clock.now()
    await stage.clock.run(consumer.close({ timeoutMs: 1_000 }))
    await drained
    expect(stage.clock.now() - before).toBeLessThanOrEqual(1_000)
    await stage.close()
  })

  it('commits what ends although it was told to give up', async () => {
    const stage = await Stage.open()
    const database = memoryDatabase({ clock: stage.clock })
    const consumer = await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      handler: async (order, { tx, signal }) => {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        tx.add('effects', nameOf(order))
      },
    })
    await stage.orders('a1')
    await stage.clock.run(consumer.close())
    expect(database.rows('effects')).toHaveLength(1)
    expect(await stage.depth()).toBe(0)
    await stage.close()
  })

  it('before start ends at once', async () => {
    const stage = await Stage.open()
    const consumer = stage.consumer({ topic: Loose, handler: () => undefined })
    await consumer.close()
    expect(await consumer.closed).toBeUndefined()
    expect(consumer.state).toBe('closed')
    await stage.close()
  })
})

describe('start', () => {
  it('is the same however often it is called', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    const consumer = stage.consumer({
      topic: Loose,
      handler: (order) => void handled.push(nameOf(order)),
    })
    await stage.clock.run(Promise.all([consumer.start(), consumer.start()]))
    await consumer.start()
    await stage.orders('a1', Loose)
    expect(handled).toEqual(['a1'])
    await stage.close()
  })

  it('gives up at its deadline while the broker is down, and works later', async () => {
    const stage = new Stage()
    stage.broker.faults.down()
    const handled: string[] = []
    const consumer = stage.consumer({
      topic: Loose,
      handler: (order) => void handled.push(nameOf(order)),
    })
    const before = stage.clock.now()
    await expect(stage.clock.run(consumer.start({ timeoutMs: 500 }))).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringContaining('starting the consumer') as string,
    })
    expect(stage.clock.now() - before).toBe(500)
    expect(consumer.state).toBe('idle')
    stage.broker.faults.up()
    await stage.clock.run(consumer.start())
    await stage.orders('a1', Loose)
    expect(handled).toEqual(['a1'])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('is given up by close', async () => {
    const stage = new Stage()
    stage.broker.faults.down()
    const consumer = stage.consumer({ topic: Loose, handler: () => undefined })
    const started = consumer.start()
    const refused = expect(started).rejects.toThrow('closed')
    await stage.clock.run(consumer.close())
    await refused
    expect(consumer.state).toBe('closed')
    expect(await consumer.closed).toBeUndefined()
    expect(stage.clock.timers).toBe(0)
  })

  it('refuses an ordering the broker does not offer, and names what it offers', async () => {
    const stage = new Stage({ capabilities: { ordering: ['partition', 'none'] } })
    const consumer = stage.consumer({ topic: Orders, handler: () => undefined })
    await expect(stage.clock.run(consumer.start())).rejects.toMatchObject({
      code: 'capability',
      message:
        "the broker memory does not offer what the consumer of orders asks for: ordering 'key' (it offers 'partition', 'none'; a consumer may relax the topic's)",
    })
    await stage.close()
  })

  it('refuses atomic where the broker has no transactions', async () => {
    const stage = new Stage({ capabilities: { atomicPublish: 'none' } })
    const consumer = stage.consumer({ topic: Orders, atomic: true, handler: () => undefined })
    await expect(stage.clock.run(consumer.start())).rejects.toMatchObject({
      code: 'capability',
      message: expect.stringContaining('atomic (it has no transactions') as string,
    })
    await stage.close()
  })

  it('verifies without making anything where that is asked for', async () => {
    const stage = new Stage()
    const consumer = stage.consumer({ topic: Orders, topology: 'verify', handler: () => undefined })
    await expect(stage.clock.run(consumer.start())).rejects.toMatchObject({ code: 'topology' })
    await stage.close()
  })

  it('tells the broker what it was told of its topics where it may not ask for them', async () => {
    const stage = await Stage.open()
    const assumed: unknown[] = []
    const assume = ({ topics }: Topology): void => {
      assumed.push(...topics.map((one) => [one.name, one.partitions, one.ordering]))
    }
    Object.assign(stage.broker, { assume })
    const topics = { [Orders.name]: { partitions: 3 } }
    const consumer = stage.consumer({
      topic: Orders,
      topics,
      topology: 'none',
      handler: () => undefined,
    })
    await stage.clock.run(consumer.start())
    expect(assumed).toEqual([[Orders.name, 3, 'key']])
    await stage.clock.run(consumer.close())
  })
})

describe('pause', () => {
  it('stops intake and handlers, and resume goes on', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    const consumer = await stage.started({
      topic: Loose,
      handler: (order) => void handled.push(nameOf(order)),
    })
    consumer.pause()
    await stage.orders('a1 a2', Loose)
    await stage.clock.advance(1_000)
    expect(handled).toEqual([])
    consumer.resume()
    await stage.settled()
    expect(handled).toEqual(['a1', 'a2'])
    await stage.close()
  })

  it('leaves retries of held messages waiting', async () => {
    const stage = await Stage.open()
    const attempts: number[] = []
    const consumer = await stage.started({
      topic: Orders,
      retry: { backoff: constant(100) },
      handler: (_order, { attempt }) => {
        attempts.push(attempt)
        if (attempt === 1) throw new Error('not yet')
      },
    })
    await stage.orders('a1')
    consumer.pause()
    await stage.clock.advance(10_000)
    expect(attempts).toEqual([1])
    consumer.resume()
    await stage.settled()
    expect(attempts).toEqual([1, 2])
    await stage.close()
  })
})

describe('a consumer whose destination is deleted', () => {
  it('ends with the error, tells it, and leaves nothing open', async () => {
    const stage = await Stage.open()
    const consumer = await stage.started({
      topic: Loose,
      handler: () => new Promise(() => undefined),
    })
    await stage.orders('a1', Loose)
    stage.broker.faults.deleteDestination('loose', 'billing')
    const error = await stage.clock.run(consumer.closed)
    expect(error).toMatchObject({ code: 'destination-gone' })
    expect(stage.told('consumer.ended')).toMatchObject([{ error: { code: 'destination-gone' } }])
    expect(consumer.state).toBe('closed')
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })
})

describe('two consumers of one broker object', () => {
  it('share its connection, which the last one closes', async () => {
    const broker = memory()
    const stage = new Stage()
    const { clock, random } = stage
    const options = { broker, group: 'billing', clock, random, logging: 'silent' as const }
    const one = new ReliableConsumer({ ...options, topic: Loose, handler: () => undefined })
    const other = new ReliableConsumer({ ...options, topic: Orders, handler: () => undefined })
    await clock.run(Promise.all([one.start(), other.start()]))
    await clock.run(one.drain())
    expect(broker.published(Orders)).toEqual([])
    expect(() => broker.deliver()).not.toThrow()
    await clock.run(other.drain())
    expect(() => broker.deliver()).toThrow('closed')
    expect(clock.timers).toBe(0)
  })
})
