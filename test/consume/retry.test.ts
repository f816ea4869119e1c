import { describe, expect, it } from 'vitest'
import type { DeliverySink } from '../../src/contract/broker.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { constant } from '../../src/policy/backoff.ts'
import { legOf } from '../../src/consume/retry-levels.ts'
import { overlaid } from '../conformance/overlay.ts'
import { type FixedRandom, group, Loose, nameOf, type Order, Stage, text } from './stage.ts'

const levels = { capabilities: { retryDelay: 'levels', attemptCount: 'header' } } as const
const none = { capabilities: { retryDelay: 'none' } } as const

/** A handler that fails `failures` times, and when it was called, in ms since the stage opened. */
function failing(stage: Stage, failures: number): { calls: number[]; handler: () => void } {
  const calls: number[] = []
  const handler = (): void => {
    calls.push(stage.clock.now())
    if (calls.length <= failures) throw new Error('not yet')
  }
  return { calls, handler }
}

describe('legOf', () => {
  const ascending = [1_000, 5_000]

  it.each([
    [1, { levelMs: 1_000, remainingMs: 0 }],
    [1_000, { levelMs: 1_000, remainingMs: 0 }],
    [1_000.5, { levelMs: 5_000, remainingMs: 0 }],
    [5_000, { levelMs: 5_000, remainingMs: 0 }],
    [5_001, { levelMs: 5_000, remainingMs: 1 }],
    [12_000, { levelMs: 5_000, remainingMs: 7_000 }],
  ])('never takes a level that is early: %s ms', (delayMs, leg) => {
    expect(legOf(delayMs, ascending)).toEqual(leg)
  })
})

describe('a message without order that fails', () => {
  it('is retried by the broker where that has delays of its own', async () => {
    const stage = await Stage.open()
    const { calls, handler } = failing(stage, 2)
    await stage.started({ topic: Loose, handler, retry: { backoff: constant(700) } })
    await stage.orders('a1', Loose)
    const [start] = calls
    expect(await stage.depth(Loose)).toBe(1)
    await stage.settled()
    expect(calls.map((at) => at - start!)).toEqual([0, 700, 1_400])
    expect(stage.told('message.retry').map(({ via, attempt }) => [via, attempt])).toEqual([
      ['broker', 1],
      ['broker', 2],
    ])
    await stage.close()
  })

  it('travels through the next level above, with attempt, id, key, time and headers', async () => {
    const stage = await Stage.open(levels)
    const { calls, handler } = failing(stage, 1)
    const sent: unknown[] = []
    await stage.started({
      topic: Loose,
      retry: { backoff: constant(1_200) },
      handler: (_order, context) => {
        const { id, key, headers, attempt, message } = context
        sent.push({ id, key, headers, attempt, timeMs: message.timeMs })
        handler()
      },
    })
    const options = { id: 'm', key: 'k', headers: { color: 'red' } }
    await stage.send(Loose, { customer: 'a', n: 1 }, options)
    await stage.settled()
    expect(calls[1]! - calls[0]!).toBeGreaterThanOrEqual(5_000)
    expect(calls[1]! - calls[0]!).toBeLessThan(5_100)
    const seen = { id: 'm', key: 'k', headers: [['color', 'red']], timeMs: 1_700_000_000_000 }
    expect(sent).toEqual([
      { ...seen, attempt: 1 },
      { ...seen, attempt: 2 },
    ])
    await stage.close()
  })

  it('waits out a delay beyond the longest level in legs that count no attempt', async () => {
    const stage = await Stage.open(levels, { loose: { retryLevelsMs: [1_000, 5_000] } })
    const attempts: number[] = []
    const calls: number[] = []
    await stage.started({
      topic: Loose,
      retry: { backoff: constant(11_500) },
      handler: (_order, { attempt }) => {
        attempts.push(attempt)
        calls.push(stage.clock.now())
        if (attempt === 1) throw new Error('not yet')
      },
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(attempts).toEqual([1, 2])
    // 5 000 + 5 000 + 5 000: the rest of 1 500 takes the level above.
    expect(calls[1]! - calls[0]!).toBeGreaterThanOrEqual(15_000)
    expect(calls[1]! - calls[0]!).toBeLessThan(15_100)
    await stage.close()
  })

  it('waits in its lane below the first level', async () => {
    const stage = await Stage.open(levels)
    const { calls, handler } = failing(stage, 1)
    await stage.started({ topic: Loose, handler, retry: { backoff: constant(300) } })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(calls[1]! - calls[0]!).toBe(300)
    expect(stage.told('message.retry').map(({ via }) => via)).toEqual(['lane'])
    await stage.close()
  })

  it('waits in its lane where the broker has no delays', async () => {
    const stage = await Stage.open(none)
    const { calls, handler } = failing(stage, 2)
    await stage.started({ topic: Loose, handler, retry: { backoff: constant(60_000) } })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(calls.map((at) => at - calls[0]!)).toEqual([0, 60_000, 120_000])
    await stage.close()
  })

  it('never comes early, whatever chance says', async () => {
    const stage = await Stage.open(levels)
    const random: FixedRandom = stage.random
    const calls: number[] = []
    await stage.started({
      topic: Loose,
      retry: { attempts: 8, backoff: { delayFor: (attempt) => attempt * 900 } },
      handler: () => {
        calls.push(stage.clock.now())
        random.value = (random.value * 7) % 1
        throw new Error('never')
      },
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    expect(calls).toHaveLength(8)
    for (let nth = 1; nth < calls.length; nth++) {
      expect(calls[nth]! - calls[nth - 1]!).toBeGreaterThanOrEqual(nth * 900)
    }
    await stage.close()
  })

  it('takes another way where the broker would be early: its level, below the first one the lane', async () => {
    const stage = await Stage.open()
    const asked: number[] = []
    const receive = stage.broker.receive.bind(stage.broker)
    stage.broker.receive = (subscription, sink) => {
      const deliver: DeliverySink['deliver'] = (source, batch) => {
        for (const delivery of batch) {
          const retry = delivery.retry!.bind(delivery)
          const shortOnes = (ms: number): boolean => {
            asked.push(ms)
            return ms <= 100 && retry(ms)
          }
          Object.assign(delivery, { retry: shortOnes })
        }
        sink.deliver(source, batch)
      }
      return receive(subscription, overlaid(sink, { deliver }))
    }
    const delays = [100, 700, 3_000, 400_000]
    const calls: number[] = []
    await stage.started({
      topic: Loose,
      retry: { attempts: 5, backoff: { delayFor: (attempt) => delays[attempt - 1]! } },
      handler: () => {
        calls.push(stage.clock.now())
        throw new Error('not yet')
      },
    })
    await stage.orders('a1', Loose)
    await stage.settled()
    // 3 s take the level of 5 s; 400 s take that of 300 s and then that of 120 s.
    const waits = calls.slice(1).map((at, nth) => Math.round(at - calls[nth]!))
    expect(waits).toEqual([100, 700, 5_000, 420_000])
    expect(asked).toEqual(delays)
    const told = stage.told('message.retry').map(({ via, attempt }) => [via, attempt])
    expect(told).toEqual([
      ['broker', 1],
      ['lane', 2],
      ['broker', 3],
      ['broker', 4],
    ])
    expect(stage.dead(Loose)).toHaveLength(1)
    await stage.close()
  })

  it('stays unacknowledged while its retry cannot be stored, and is stored again and again', async () => {
    const stage = await Stage.open(levels)
    const { calls, handler } = failing(stage, 1)
    const toRetry = { match: isRetry, times: 3, retryable: false }
    const fault = stage.broker.faults.refuseSends(toRetry)
    await stage.started({ topic: Loose, handler, retry: { backoff: constant(1_000) } })
    await stage.orders('a1', Loose)
    expect(await stage.depth(Loose)).toBe(1)
    await stage.settled()
    expect(fault.hits).toBe(3)
    expect(stage.told('settle.failed')).toHaveLength(3)
    expect(calls).toHaveLength(2)
    await stage.close()
  })

  it('is acknowledged after the confirm of its retry, not before', async () => {
    const stage = await Stage.open(levels)
    const { handler } = failing(stage, 1)
    stage.broker.faults.delayConfirms(400, { match: isRetry })
    await stage.started({ topic: Loose, handler, retry: { backoff: constant(1_000) } })
    await stage.orders('a1', Loose)
    await stage.clock.advance(399)
    expect(stage.crashes).not.toContain('after_ack')
    await stage.clock.advance(2)
    expect(stage.crashes.slice(-4)).toEqual([
      'before_retry_publish',
      'after_retry_publish_before_ack',
      'after_commit_before_ack',
      'after_ack',
    ])
    await stage.close()
  })

  it('takes the count of attempts from the header where the broker counts less', async () => {
    const stage = await Stage.open({ capabilities: { attemptCount: 'none' } })
    const attempts: number[] = []
    await stage.started({
      topic: Loose,
      handler: (_order, { attempt }) => void attempts.push(attempt),
    })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    for (const [id, value] of [
      ['x', '4'],
      ['y', 'many'],
      ['z', '-1'],
    ] as const) {
      await stage.sendRaw({ ...envelope, id, headers: [[ownHeaders.attempt, value]] })
    }
    expect(attempts).toEqual([1, 5, 1, 1])
    await stage.close()
  })

  it('starts a level that is no longer configured with what is left', async () => {
    const stage = await Stage.open(levels)
    const handled: string[] = []
    await stage.started({
      topic: Loose,
      handler: (order: Order) => void handled.push(nameOf(order)),
    })
    const envelope = await stage.send(Loose, { customer: 'a', n: 1 })
    const to = { kind: 'group', topic: 'loose', group, delayMs: 5_000 } as const
    await stage.sendRaw({ ...envelope, id: 'r', to, headers: [[ownHeaders.remaining, '800']] })
    await stage.clock.advance(5_999)
    expect(handled).toEqual(['a1'])
    await stage.clock.advance(100)
    expect(handled).toEqual(['a1', 'a1'])
    expect(text(envelope.headers, ownHeaders.remaining)).toBeUndefined()
    await stage.close()
  })

  it('that the broker never takes waits where it is, and is counted', async () => {
    const stage = await Stage.open(levels)
    const attempts: number[] = []
    await stage.started({
      topic: Loose,
      retry: { attempts: 3, backoff: constant(2_000) },
      handler: (_order: Order, { attempt }) => {
        attempts.push(attempt)
        throw new Error('not yet')
      },
    })
    stage.broker.faults.refuseSends({
      match: isRetry,
      ...{ code: 'too-large', retryable: false, times: 10_000 },
    })
    await stage.send(Loose, { customer: 'a', n: 1 })
    await stage.clock.advance(1_999)
    expect(attempts).toEqual([1])
    await stage.settled()
    expect(attempts).toEqual([1, 2, 3])
    expect(stage.dead(Loose)).toHaveLength(1)
    await stage.close()
  })
})

function isRetry({ to }: { readonly to: { readonly kind: string } }): boolean {
  return to.kind === 'group'
}
