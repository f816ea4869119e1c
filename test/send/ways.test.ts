import { describe, expect, it } from 'vitest'

import { CONFIRMED, type SendOutcome } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { constant } from '../../src/policy/backoff.ts'
import { refused, unknown } from '../support/scripted-broker.ts'
import { type Ended, Stage } from './stage.ts'

const breaker = { volumeThreshold: 3, resetMs: 1_000, probeMs: 2_000 }

async function sendSome(stage: Stage, count: number, to = 'orders'): Promise<Ended[]> {
  const ends: Ended[] = []
  for (let n = 0; n < count; n++) ends.push((await stage.send(`${to}-${n}`, { to })).ended)
  return ends
}

function statesOf(stage: Stage): string[] {
  return stage.of('breaker.state').map(({ name, state }) => `${name} ${state}`)
}

function topicOf({ to }: Envelope): string {
  return to.kind === 'topic' ? to.topic : to.kind
}

describe('the way to the broker', () => {
  it('is opened by the first message', async () => {
    const stage = new Stage()
    await stage.clock.settle()
    expect(stage.broker.opens).toBe(0)
    await stage.send('a')
    expect([stage.broker.opens, stage.broker.sends.length]).toEqual([1, 1])
  })

  it.each(['down', 'blocked'] as const)('is shut while the broker is %s', async (status) => {
    const stage = new Stage({ answer: () => CONFIRMED })
    await stage.send('a')
    stage.broker.become(status)
    const { ended } = await stage.send('b')
    await stage.clock.advance(10_000)
    expect([ended.status, stage.broker.sends.length]).toEqual(['open', 1])
    stage.broker.become('up')
    await stage.clock.settle()
    expect(ended).toMatchObject({ status: 'confirmed', atMs: 10_000 })
  })

  it('stays open while the broker is degraded', async () => {
    const stage = new Stage({ answer: () => CONFIRMED })
    await stage.send('a')
    stage.broker.become('degraded')
    expect((await stage.send('b')).ended.status).toBe('confirmed')
  })

  it('being blocked is not a failure: no breaker opens (PL-7)', async () => {
    const stage = new Stage({ answer: () => CONFIRMED, breaker })
    await stage.send('a')
    stage.broker.become('blocked')
    await sendSome(stage, 50)
    await stage.clock.advance(20_000)
    expect(statesOf(stage)).toEqual([])
  })

  it('going down opens the breaker at once, coming up closes it (PL-5)', async () => {
    const stage = new Stage({ answer: () => CONFIRMED, breaker })
    await stage.send('a')
    stage.broker.become('down', 'gone')
    stage.broker.become('up')
    expect(statesOf(stage)).toEqual(['publish open', 'publish closed'])
  })

  it('refuses everything when the broker cannot be opened and waiting does not help', async () => {
    const stage = new Stage()
    stage.broker.opening = () =>
      Promise.reject(new HoldfastError('missing-package', 'npm i amqplib'))
    const { ended } = await stage.send('a')
    expect(ended.status).toBe('PublishRefusedError missing-package')
    expect(ended.error?.message).toContain('npm i amqplib')
    stage.broker.opening = () => Promise.resolve()
    await stage.send('b')
    expect(stage.broker.last.ids).toEqual(['b'])
  })
})

describe("the connection's breaker", () => {
  it('opens when connections are lost, probes with one message, and lets all go when that is confirmed', async () => {
    let works = false
    const stage = new Stage({
      breaker,
      answer: () => (works ? CONFIRMED : unknown('connection-lost')),
      retry: { attempts: Infinity, backoff: constant(10) },
    })
    const ends = await sendSome(stage, 5)
    expect(statesOf(stage)).toEqual(['publish open'])
    const before = stage.broker.sends.length
    await stage.clock.advance(999)
    expect(stage.broker.sends).toHaveLength(before)
    await stage.clock.advance(1)
    expect(stage.broker.sends.length - before).toBe(1)
    expect(stage.broker.last.batch).toHaveLength(1)
    works = true
    await stage.clock.advance(1_100)
    expect(ends.every(({ status }) => status === 'confirmed')).toBe(true)
    expect(statesOf(stage).slice(-2)).toEqual(['publish half-open', 'publish closed'])
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('comes back from a probe that is never answered', async () => {
    let outcome: SendOutcome | null = unknown('connection-lost')
    const stage = new Stage({ breaker, answer: () => outcome })
    await sendSome(stage, 4)
    outcome = null
    await stage.clock.advance(1_000)
    expect(statesOf(stage)).toEqual(['publish open', 'publish half-open'])
    outcome = CONFIRMED
    await stage.clock.advance(2_000)
    expect(statesOf(stage).slice(-1)).toEqual(['publish open'])
    await stage.clock.advance(1_000)
    expect(statesOf(stage).slice(-1)).toEqual(['publish closed'])
  })

  it('is not opened by what only a living broker can say (PL-3, PL-7)', async () => {
    const outcomes = [
      refused('unroutable', false),
      refused('too-large', false),
      refused('rejected', false),
      unknown('nacked'),
    ]
    let next = 0
    const stage = new Stage({ breaker, answer: () => outcomes[next++ % 4] ?? null })
    await sendSome(stage, 40)
    expect(
      statesOf(stage).filter((state) => state.startsWith('publish o') && !state.includes('orders')),
    ).toEqual([])
  })

  it('a message refused before it was sent neither opens nor heals it (PL-3)', async () => {
    const stage = new Stage({
      breaker,
      answer: () => unknown('connection-lost'),
      retry: { attempts: 1, backoff: constant(10) },
    })
    await sendSome(stage, 3)
    await stage.clock.advance(1_000)
    expect(statesOf(stage)).toEqual(['publish open', 'publish half-open'])
    const { ended } = await stage.send('big', { body: new Uint8Array(2_000_000) })
    expect(ended.status).toBe('TooLargeError too-large')
    expect(statesOf(stage)).toHaveLength(2)
  })
})

describe("a destination's breaker", () => {
  it('stops that destination only: the others keep their rate', async () => {
    const stage = new Stage({
      breaker,
      answer: (one) => (topicOf(one) === 'sick' ? refused('rejected', true) : CONFIRMED),
      retry: { attempts: Infinity, backoff: constant(10) },
    })
    await sendSome(stage, 5, 'sick')
    expect(statesOf(stage)).toEqual(['publish sick open'])
    const sick = (): number =>
      stage.broker.sends.filter(({ batch }) => batch.some((one) => topicOf(one) === 'sick')).length
    const before = sick()
    const healthy = await sendSome(stage, 100, 'healthy')
    expect(healthy.every(({ status }) => status === 'confirmed')).toBe(true)
    await stage.clock.advance(900)
    expect(sick()).toBe(before)
    await stage.clock.advance(5_000)
    // One probe per second, not a storm.
    expect(sick() - before).toBeLessThanOrEqual(6)
    expect(sick() - before).toBeGreaterThanOrEqual(4)
  })

  it('lets everything go when its probe is confirmed', async () => {
    let well = false
    const stage = new Stage({
      breaker,
      answer: () => (well ? CONFIRMED : refused('rejected', true)),
      retry: { attempts: Infinity, backoff: constant(10) },
    })
    const ends = await sendSome(stage, 8)
    well = true
    await stage.clock.advance(1_000)
    expect(ends.every(({ status }) => status === 'confirmed')).toBe(true)
    expect(statesOf(stage)).toEqual([
      'publish orders open',
      'publish orders half-open',
      'publish orders closed',
    ])
  })

  it('holds messages within their deadline, never longer, and never confirms by itself (PL-9)', async () => {
    const stage = new Stage({
      breaker,
      answer: () => refused('rejected', true),
      retry: { attempts: Infinity, backoff: constant(10) },
    })
    await sendSome(stage, 5)
    const { ended } = await stage.send('late', { deadline: 700 })
    await stage.clock.advance(700)
    expect(ended).toMatchObject({ status: 'PublishRefusedError not-sent', atMs: 700 })
  })

  it('is not made for a destination that never failed', async () => {
    const stage = new Stage({ answer: () => CONFIRMED })
    await sendSome(stage, 50)
    expect(stage.of('breaker.state')).toEqual([])
    expect(stage.clock.timers).toBeLessThanOrEqual(1)
  })

  it('counts a report once, however many messages it is about (PL-8)', async () => {
    const stage = new Stage({ breaker })
    await Promise.all(Array.from({ length: 100 }, (_, n) => stage.send(`${n}`)))
    stage.broker.last.refuse('rejected', true)
    expect(statesOf(stage)).toEqual([])
  })
})

describe('before a message goes', () => {
  it('prepares its topic once, and again on every new connection', async () => {
    const prepared: string[] = []
    const prepare = async (topic: string): Promise<void> => void prepared.push(topic)
    const stage = new Stage({ answer: () => CONFIRMED, prepare })
    await sendSome(stage, 3)
    await sendSome(stage, 2, 'payments')
    expect(prepared).toEqual(['orders', 'payments'])
    stage.broker.become('down')
    stage.broker.become('up')
    await sendSome(stage, 3)
    expect(prepared).toEqual(['orders', 'payments', 'orders'])
  })

  it('waits for that, and is refused with its reason when that fails; the next tries again', async () => {
    const ends: ((error: Error | null) => void)[] = []
    const prepare = (): Promise<void> =>
      new Promise((resolve, reject) => {
        ends.push((error) => (error === null ? resolve() : reject(error)))
      })
    const stage = new Stage({ answer: () => CONFIRMED, prepare })
    const { ended } = await stage.send('a')
    await stage.send('b')
    expect([stage.broker.sends.length, ends.length]).toEqual([0, 1])
    ends[0]?.(new HoldfastError('topology', 'queue orders.billing is missing'))
    await stage.clock.settle()
    expect(ended.status).toBe('PublishRefusedError topology')
    expect(ended.error?.message).toContain('queue orders.billing is missing')
    const { ended: next } = await stage.send('c')
    ends[1]?.(null)
    await stage.clock.settle()
    expect(next.status).toBe('confirmed')
  })

  it('checks its size, with both sizes in the error', async () => {
    const limits = (): { maxBodyBytes: number } => ({ maxBodyBytes: 100 })
    const stage = new Stage({ capabilities: { limits } })
    const { ended: fits } = await stage.send('fits', { body: new Uint8Array(100) })
    const { ended } = await stage.send('big', { body: new Uint8Array(101) })
    expect([fits.status, ended.status]).toEqual(['open', 'TooLargeError too-large'])
    expect(ended.error?.message).toContain('message big has 101 bytes, "orders" takes at most 100')
    expect(stage.broker.sends.flatMap(({ ids }) => ids)).toEqual(['fits'])
  })

  it('a schedule the broker cannot keep is a CapabilityError that names the way out', async () => {
    const stage = new Stage({ capabilities: { scheduledSend: { maxDelayMs: 1_000 } } })
    const at = stage.clock.wallMs()
    await stage.send('fits', { deliverAtMs: at + 1_000 })
    const { ended } = await stage.send('late', { deliverAtMs: at + 1_001 })
    expect(ended.status).toBe('CapabilityError capability')
    expect(ended.error?.message).toContain('delays messages by at most 1000 ms; use publishIn')
    expect(stage.broker.sends.flatMap(({ ids }) => ids)).toEqual(['fits'])
  })
})
