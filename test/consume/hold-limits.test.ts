import { describe, expect, it } from 'vitest'
import type { MemoryOptions } from '../../adapters/memory/index.ts'
import { memoryDatabase, memoryInbox } from '../../adapters/memory/index.ts'
import { constant } from '../../src/policy/backoff.ts'
import { Gate, nameOf, Orders, Stage } from './stage.ts'

type Switches = NonNullable<MemoryOptions['capabilities']>

/** A consumer whose customer `a` fails until it is mended; what was handled, in order. */
async function failingKey(
  capabilities: Switches,
  prefetch?: { messages?: number; bytes?: number },
): Promise<{ stage: Stage; handled: string[]; mend: () => void }> {
  const stage = await Stage.open({ capabilities })
  const handled: string[] = []
  let isBad = true
  await stage.started({
    topic: Orders,
    ...(prefetch === undefined ? {} : { prefetch }),
    retry: { attempts: 1_000, backoff: constant(1_000) },
    handler: (order) => {
      if (isBad && order.customer === 'a') throw new Error('not yet')
      handled.push(nameOf(order))
    },
  })
  return { stage, handled, mend: () => void (isBad = false) }
}

const list = (customer: string, from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, at) => `${customer}${from + at}`).join(' ')

describe('when too much waits for a failed message', () => {
  it.each([
    ['the broker’s own limit', { hold: { maxMessages: 8 } }, undefined],
    ['prefetch', {}, { messages: 8 }],
  ])(
    'its source stops at 75 %% of %s, keeps the order, and goes on after',
    async (_what, switches, prefetch) => {
      const { stage, handled, mend } = await failingKey(switches, prefetch)
      await stage.orders(list('a', 1, 5))
      expect(stage.told('lane.full')).toEqual([])
      await stage.orders('b1')
      expect(handled).toEqual(['b1'])
      await stage.orders('a6')
      expect(stage.told('lane.full')).toMatchObject([{ limit: 'messages' }])
      await stage.orders(`b2 ${list('a', 7, 12)}`)
      await stage.clock.advance(5_000)
      expect(handled).toEqual(['b1'])
      mend()
      await stage.settled()
      expect(handled.filter((name) => name.startsWith('a'))).toEqual(list('a', 1, 12).split(' '))
      expect(handled).toContain('b2')
      expect(stage.told('lane.full')).toHaveLength(1)
      await stage.close()
    },
  )

  it('stops at 75 % of the bytes that may be held', async () => {
    const { stage, handled, mend } = await failingKey({}, { bytes: 200 })
    await stage.orders(list('a', 1, 7))
    expect(stage.told('lane.full')).toMatchObject([{ limit: 'messages' }])
    mend()
    await stage.settled()
    expect(handled).toHaveLength(7)
    await stage.close()
  })

  it('stops at 75 % of the holes the broker remembers', async () => {
    const switches = { progress: { outOfOrder: 'encoded', maxHoles: 4 } } as const
    const { stage, handled, mend } = await failingKey(switches)
    await stage.orders('a1 a2 b1')
    expect(stage.told('lane.full')).toEqual([])
    await stage.orders('a3 b2')
    expect(stage.told('lane.full')).toMatchObject([{ limit: 'holes' }])
    expect(handled).toEqual(['b1'])
    mend()
    await stage.settled()
    expect(handled).toEqual(['b1', 'a1', 'a2', 'a3', 'b2'])
    await stage.close()
  })

  it('stops at the first failure where the broker remembers no holes', async () => {
    const { stage, handled, mend } = await failingKey({ progress: { outOfOrder: 'none' } })
    await stage.orders('a1 b1')
    expect(stage.told('lane.full')).toMatchObject([{ limit: 'holes' }])
    expect(handled).toEqual([])
    mend()
    await stage.settled()
    expect(handled).toEqual(['a1', 'b1'])
    await stage.close()
  })

  it('pauses all of it where the broker pauses everything or nothing', async () => {
    const { stage, handled, mend } = await failingKey({ pause: 'all', hold: { maxMessages: 4 } })
    await stage.orders('a1 a2 a3 b1')
    expect(stage.told('lane.full')).toHaveLength(1)
    expect(handled).toEqual([])
    mend()
    await stage.settled()
    expect(handled.toSorted()).toEqual(['a1', 'a2', 'a3', 'b1'])
    await stage.close()
  })

  it('stops in good time before the longest hold, and gives the key back before that', async () => {
    const { stage, handled, mend } = await failingKey({ hold: { maxMs: 10_000 } })
    await stage.orders('a1 a2')
    await stage.clock.advance(7_000)
    expect(stage.told('lane.full')).toEqual([])
    await stage.clock.advance(1_000)
    expect(stage.told('lane.full')).toMatchObject([{ limit: 'age' }])
    expect(stage.told('settle.stale')).toEqual([])
    mend()
    await stage.settled()
    expect(handled).toEqual(['a1', 'a2'])
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('gives a key back in order when it cannot be held any longer', async () => {
    const stage = await Stage.open({ capabilities: { hold: { maxMs: 10_000 } } })
    const attempts: string[] = []
    await stage.started({
      topic: Orders,
      retry: { attempts: 1_000, backoff: constant(8_000) },
      handler: (order, { attempt }) => {
        attempts.push(`${nameOf(order)} ${attempt}`)
        if (stage.clock.now() < 17_000) throw new Error('not yet')
      },
    })
    await stage.orders('a1 a2')
    await stage.settled()
    expect(attempts.slice(0, 2)).toEqual(['a1 1', 'a1 2'])
    // Given back, the tries in between are forgotten; it never counts as one itself.
    expect(attempts[2]).toBe('a1 1')
    expect(attempts.at(-1)).toBe('a2 1')
    expect([stage.told('settle.stale'), stage.told('source.lost')]).toEqual([[], []])
    expect(stage.settles).toEqual(expect.arrayContaining(['release orders.billing#0']))
    await stage.close()
  })

  it('is no concern of messages that only wait for their turn', async () => {
    const stage = await Stage.open({ capabilities: { hold: { maxMessages: 4 } } })
    const gate = new Gate()
    await stage.started({ topic: Orders, concurrency: 1, handler: () => gate.passed })
    await stage.orders(list('a', 1, 20))
    expect(stage.told('lane.full')).toEqual([])
    gate.open()
    await stage.settled()
    await stage.close()
  })

  it('holds what a database that is away keeps waiting, within prefetch', async () => {
    const stage = await Stage.open()
    const database = memoryDatabase({ clock: stage.clock })
    const handled: string[] = []
    await stage.started({
      topic: Orders,
      inbox: memoryInbox({ database }),
      prefetch: { messages: 8 },
      handler: (order) => void handled.push(nameOf(order)),
    })
    database.faults.disconnect()
    await stage.orders(list('a', 1, 20))
    await stage.clock.advance(60_000)
    expect(stage.told('lane.full')).toHaveLength(1)
    expect(await stage.depth()).toBe(20)
    database.faults.reconnect()
    await stage.settled()
    expect(handled).toEqual(list('a', 1, 20).split(' '))
    await stage.close()
  })
})
