import { describe, expect, it } from 'vitest'

import { PartsHealth, type Health } from '../../../adapters/kafka/health.ts'
import { Pulse } from '../../../adapters/kafka/pulse.ts'
import type { BrokerState } from '../../../src/contract/broker.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

describe('the health of all parts', () => {
  it('is down when all are away, degraded when one is weak or away, and told on changes only', () => {
    const told: BrokerState[] = []
    const health = new PartsHealth((state) => void told.push(state))
    const admin = health.tell('admin')
    const sender = health.tell('sender')
    admin('up', null)
    sender('up', null)
    sender('weak', 'commits fail')
    sender('weak', 'commits fail')
    admin('away', 'no answer')
    sender('away', 'no leader')
    health.forget('admin')
    sender('up', null)
    health.end()
    sender('away', 'closed')
    expect(told).toEqual([
      { status: 'up', reason: null },
      { status: 'degraded', reason: 'commits fail' },
      { status: 'down', reason: 'no answer' },
      { status: 'up', reason: null },
    ])
  })
})

describe('the pulse', () => {
  /** A cluster that a test turns off, and what was told of it. */
  function stage() {
    const clock = new VirtualClock()
    const told: [Health, string | null][] = []
    const cluster = { ping: (): Promise<void> => Promise.resolve(), asked: 0 }
    const pulse = new Pulse({
      clock,
      admin: {
        ping: () => {
          cluster.asked++
          return cluster.ping()
        },
      },
      health: (...one) => void told.push(one),
    })
    return { clock, cluster, told, pulse }
  }

  it('asks every second, and more often while nobody answers', async () => {
    const { clock, cluster, told, pulse } = stage()
    pulse.start()
    await clock.advance(1_000)
    expect(cluster.asked).toBe(2)
    cluster.ping = () => Promise.reject(new Error('silence'))
    await clock.advance(1_000)
    expect(told.at(-1)).toEqual(['weak', 'silence'])
    await clock.advance(250)
    expect(told.at(-1)).toEqual(['away', 'silence'])
    cluster.ping = () => Promise.resolve()
    await clock.advance(250)
    expect(told.at(-1)).toEqual(['up', null])
    await pulse.stop(clock.now() + 1_000)
    expect(clock.timers).toBe(0)
  })

  it('does not wait for the next node for long either', async () => {
    const { clock, cluster, told, pulse } = stage()
    cluster.ping = () => Promise.reject(new Error('silence'))
    pulse.start()
    await clock.advance(0)
    expect(told).toEqual([['weak', 'silence']])
    let answer: () => void = () => undefined
    cluster.ping = () => new Promise((resolve) => void (answer = resolve))
    await clock.advance(1_249)
    expect(told).toHaveLength(1)
    await clock.advance(1)
    expect(told.at(-1)).toEqual(['away', 'silence'])
    answer()
    await clock.advance(0)
    expect(told.at(-1)).toEqual(['up', null])
    await pulse.stop(clock.now() + 1_000)
    expect(clock.timers).toBe(0)
  })

  it('ends at once, and says nothing any more', async () => {
    const { clock, cluster, told, pulse } = stage()
    await pulse.stop(0)
    pulse.start()
    await clock.advance(10_000)
    expect(cluster.asked).toBe(0)
    expect(told).toEqual([])
  })
})
