import { describe, expect, it } from 'vitest'
import { constant } from '../../src/policy/backoff.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { Loose, nameOf, type Order, Orders, Stage } from './stage.ts'

const breaker = { volumeThreshold: 4, errorThresholdPercentage: 50, resetMs: 1_000 }

function list(count: number): string {
  return Array.from({ length: count }, (_, at) => `${'abcdefghij'[at % 10]}${at}`).join(' ')
}

/** A dependency that is down until told otherwise, and who asked it when. */
async function withDependency(
  topic: typeof Orders,
): Promise<{ stage: Stage; asked: [string, number][]; heal: () => void }> {
  const stage = await Stage.open()
  const asked: [string, number][] = []
  let isDown = true
  await stage.started({
    topic,
    breaker,
    concurrency: 1,
    retry: { attempts: 2, backoff: constant(10) },
    handler: (order: Order, { attempt }) => {
      asked.push([nameOf(order), attempt])
      if (isDown) throw new Error('the dependency is down')
    },
  })
  return { stage, asked, heal: () => void (isDown = false) }
}

describe.each([Loose, Orders])('with a breaker, while most handlers fail ($name)', (topic) => {
  it('nothing is handled but probes, nothing counts, nothing is dead-lettered', async () => {
    const { stage, asked, heal } = await withDependency(topic)
    await stage.orders(list(10), topic)
    await stage.clock.advance(30_000)
    expect(stage.told('breaker.state')[0]).toMatchObject({
      name: 'consumer billing',
      state: 'open',
    })
    const probes = stage.told('breaker.state').filter(({ state }) => state === 'half-open').length
    expect(probes).toBeGreaterThan(10)
    const dead = stage.dead(topic).length
    // Until it opened, four failures counted: at most two messages can be given up by them.
    expect(dead).toBeLessThanOrEqual(2)
    expect(asked.length).toBeLessThanOrEqual(4 + probes)
    heal()
    await stage.settled()
    expect(stage.dead(topic)).toHaveLength(dead)
    expect(stage.told('breaker.state').at(-1)).toMatchObject({ state: 'closed' })
    await stage.close()
    expect(stage.clock.timers).toBe(0)
  })

  it('intake stands still while it is open, and goes on after', async () => {
    const { stage, asked, heal } = await withDependency(topic)
    await stage.orders(list(4), topic)
    await stage.clock.advance(100)
    const before = asked.length
    await stage.orders('x1 y1 z1', topic)
    await stage.clock.advance(500)
    expect(asked).toHaveLength(before)
    heal()
    await stage.settled()
    expect(asked.filter(([name]) => 'xyz'.includes(name[0]!))).toHaveLength(3)
    await stage.close()
  })
})

describe('a breaker', () => {
  it('is not told of what is the message’s own fault', async () => {
    const stage = await Stage.open()
    await stage.started({
      topic: Loose,
      breaker,
      handler: () => {
        throw new PermanentError('no')
      },
    })
    await stage.orders(list(20), Loose)
    expect(stage.told('breaker.state')).toEqual([])
    expect(stage.dead(Loose)).toHaveLength(20)
    await stage.close()
  })

  it('is probed with something held first, one at a time', async () => {
    const stage = await Stage.open()
    let running = 0
    let most = 0
    let isDown = true
    await stage.started({
      topic: Loose,
      breaker,
      concurrency: 10,
      retry: { attempts: 2, backoff: constant(10) },
      handler: async () => {
        most = isDown ? most : Math.max(most, ++running)
        await new Promise<void>((resolve) => stage.clock.after(100, resolve))
        if (isDown) throw new Error('down')
        running--
      },
    })
    await stage.orders(list(10), Loose)
    await stage.clock.advance(500)
    expect(stage.told('breaker.state').map(({ state }) => state)).toEqual(['open'])
    isDown = false
    await stage.clock.until(() => stage.told('breaker.state').at(-1)?.state === 'half-open')
    await stage.clock.advance(99)
    expect(most).toBe(1)
    await stage.settled()
    expect(stage.told('breaker.state').map(({ state }) => state)).toEqual([
      'open',
      'half-open',
      'closed',
    ])
    await stage.close()
  })

  it('is probed again when the probe says nothing', async () => {
    const stage = await Stage.open()
    let isDown = true
    const handled: string[] = []
    await stage.started({
      topic: Orders,
      breaker,
      concurrency: 1,
      retry: { attempts: 3, backoff: constant(10) },
      handler: (order) => {
        if (isDown) throw new Error('down')
        if (order.customer === 'a') throw new PermanentError('no')
        handled.push(nameOf(order))
      },
    })
    await stage.orders('a1 b1 c1 d1')
    await stage.clock.advance(100)
    isDown = false
    const before = stage.clock.now()
    await stage.settled()
    expect(handled.toSorted()).toEqual(['b1', 'c1', 'd1'])
    expect(stage.clock.now() - before).toBeLessThan(2_000)
    await stage.close()
  })
})
