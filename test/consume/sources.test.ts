import { describe, expect, it } from 'vitest'
import { memoryDatabase, memoryInbox } from '../../adapters/memory/index.ts'
import { constant } from '../../src/policy/backoff.ts'
import { Gate, Loose, nameOf, Orders, Stage } from './stage.ts'

describe('a source that is lost', () => {
  it('aborts its handlers, drops what is queued, and settles nothing of it', async () => {
    const stage = await Stage.open()
    const reasons: string[] = []
    const attempts: number[] = []
    const gate = new Gate()
    await stage.started({
      topic: Orders,
      handler: async (_order, { signal, attempt }) => {
        attempts.push(attempt)
        signal.addEventListener('abort', () => reasons.push((signal.reason as Error).message))
        await gate.passed
      },
    })
    await stage.orders('a1 a2 b1')
    stage.broker.faults.loseSources({ withhold: true })
    expect(reasons).toHaveLength(2)
    expect(reasons[0]).toContain('was lost while the handler ran')
    expect(stage.told('source.lost')).toMatchObject([{ held: 3 }])
    gate.open()
    await stage.clock.settle()
    expect(stage.crashes).not.toContain('after_ack')
    expect(stage.told('settle.stale')).toEqual([])
    stage.broker.faults.regain()
    await stage.settled()
    expect(attempts).toEqual([1, 1, 1, 1, 1])
    await stage.close()
  })

  it('and comes back does not start a key before the aborted handler of the older epoch ended', async () => {
    const stage = await Stage.open()
    const gates: Gate[] = []
    const started: string[] = []
    let running = 0
    let most = 0
    await stage.started({
      topic: Orders,
      handler: async (order) => {
        started.push(nameOf(order))
        most = Math.max(most, ++running)
        const gate = new Gate()
        gates.push(gate)
        await gate.passed
        running--
      },
    })
    await stage.orders('a1 a2')
    stage.broker.faults.loseSources()
    await stage.clock.advance(10)
    expect(started).toEqual(['a1'])
    gates[0]!.open()
    await stage.clock.advance(10)
    expect(started).toEqual(['a1', 'a1'])
    gates[1]!.open()
    await stage.clock.advance(10)
    gates[2]!.open()
    await stage.settled()
    expect(started).toEqual(['a1', 'a1', 'a2'])
    expect(most).toBe(1)
    await stage.close()
  })

  it('while a key waits for its retry begins anew, in order', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    let failures = 1
    await stage.started({
      topic: Orders,
      retry: { backoff: constant(1_000) },
      handler: (order) => {
        if (failures-- > 0) throw new Error('not yet')
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 a2')
    stage.broker.faults.loseSources()
    await stage.clock.advance(500)
    expect(handled).toEqual(['a1', 'a2'])
    await stage.clock.advance(5_000)
    expect(handled).toEqual(['a1', 'a2'])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('while a dead letter is on its way does not acknowledge, and the message comes again', async () => {
    const stage = await Stage.open()
    stage.broker.faults.delayConfirms(500, { match: ({ to }) => to.kind === 'dead', times: 1 })
    await stage.started({
      topic: Orders,
      retry: { attempts: 1 },
      handler: () => {
        throw new Error('never')
      },
    })
    await stage.orders('a1')
    stage.broker.faults.loseSources({ withhold: true })
    await stage.clock.advance(1_000)
    expect(stage.crashes).not.toContain('after_ack')
    stage.broker.faults.regain()
    await stage.settled()
    expect(stage.dead()).toHaveLength(2)
    await stage.close()
  })

  it('costs an effect neither its one time nor its being there', async () => {
    const stage = await Stage.open()
    const database = memoryDatabase({ clock: stage.clock })
    const inbox = memoryInbox({ database })
    const gate = new Gate()
    await stage.started({
      topic: Orders,
      inbox,
      handler: async (order, { tx }) => {
        tx.add('effects', nameOf(order))
        await gate.passed
      },
    })
    await stage.orders('a1 b1')
    stage.broker.faults.loseSources()
    gate.open()
    await stage.settled()
    const effects = database.rows('effects').map(([, row]) => row as string)
    expect(effects.toSorted()).toEqual(['a1', 'b1'])
    expect(stage.told('message.duplicate')).toHaveLength(2)
    await stage.close()
  })
})

describe('a source that is revoked', () => {
  it('finishes what runs, gives back what has not started, and is done before the deadline', async () => {
    const stage = await Stage.open()
    const gate = new Gate()
    const started: string[] = []
    await stage.started({
      topic: Orders,
      handler: async (order) => {
        started.push(nameOf(order))
        await gate.passed
      },
    })
    await stage.orders('a1 a2 b1')
    const revoked = stage.broker.faults.revokeSources()
    await stage.clock.advance(100)
    expect(started).toEqual(['a1', 'b1'])
    gate.open()
    await stage.clock.run(revoked)
    await stage.settled()
    expect(started).toEqual(['a1', 'b1', 'a2'])
    expect(stage.crashes.filter((point) => point === 'after_ack')).toHaveLength(3)
    expect(stage.told('source.lost')).toEqual([])
    await stage.close()
  })

  it('is given up at the deadline: the handler is aborted and settles nothing', async () => {
    const stage = await Stage.open({ rebalanceMs: 1_000 })
    const aborted: number[] = []
    const gate = new Gate()
    await stage.started({
      topic: Orders,
      handler: async (_order, { signal }) => {
        signal.addEventListener('abort', () => aborted.push(stage.clock.now() - start))
        await gate.passed
      },
    })
    await stage.orders('a1')
    const start = stage.clock.now()
    const revoked = stage.broker.faults.revokeSources()
    await stage.clock.run(revoked)
    expect(aborted).toHaveLength(1)
    expect(aborted[0]).toBeGreaterThan(900)
    expect(aborted[0]).toBeLessThan(1_000)
    gate.open()
    await stage.settled()
    await stage.close()
  })

  it('releases a failed message instead of letting it wait, without counting', async () => {
    const stage = await Stage.open()
    const attempts: number[] = []
    const gate = new Gate()
    await stage.started({
      topic: Orders,
      retry: { attempts: 2 },
      handler: async (_order, { attempt }) => {
        attempts.push(attempt)
        if (attempts.length === 1) {
          await gate.passed
          throw new Error('not yet')
        }
      },
    })
    await stage.orders('a1')
    const revoked = stage.broker.faults.revokeSources()
    await stage.clock.settle()
    gate.open()
    await stage.clock.run(revoked)
    await stage.settled()
    expect(attempts).toEqual([1, 1])
    await stage.close()
  })

  it('is paused before it comes when the consumer is paused', async () => {
    const stage = await Stage.open()
    const handled: string[] = []
    const consumer = stage.consumer({
      topic: Loose,
      handler: (order) => void handled.push(nameOf(order)),
    })
    consumer.pause()
    await stage.clock.run(consumer.start())
    await stage.orders('a1', Loose)
    stage.broker.faults.loseSources()
    await stage.clock.advance(1_000)
    expect(handled).toEqual([])
    expect(stage.crashes).not.toContain('after_deliver')
    consumer.resume()
    await stage.settled()
    expect(handled).toEqual(['a1'])
    await stage.close()
  })
})
