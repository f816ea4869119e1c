import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import {
  CONFIRMED,
  type Deadline,
  type Report,
  type SendOutcome,
} from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { constant } from '../../src/policy/backoff.ts'
import { refused, unknown } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { type Ended, Stage } from './stage.ts'

/** Raise it to look longer: `HOLDFAST_RUNS=1000`. */
const RUNS = Number(process.env.HOLDFAST_RUNS ?? 40)

const together = { keyRunsInOneSend: true }

describe('the gate where a run of a key is not kept together', () => {
  it('hands over one message of a key at a time, and other keys meanwhile', async () => {
    const stage = new Stage()
    await Promise.all([
      stage.send('a1', { key: 'a' }),
      stage.send('b1', { key: 'b' }),
      stage.send('a2', { key: 'a' }),
      stage.send('u'),
      stage.send('b2', { key: 'b' }),
    ])
    expect(stage.broker.sends.map(({ ids }) => ids)).toEqual([['a1', 'b1', 'u']])
    stage.broker.sends[0]?.confirm(1, 2)
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['b2'])
    stage.broker.sends[0]?.confirm(0, 1)
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['a2'])
  })

  it('keys of different destinations are different keys', async () => {
    const stage = new Stage()
    await Promise.all([
      stage.send('one', { key: 'k', to: 'orders' }),
      stage.send('two', { key: 'k', to: 'payments' }),
      stage.send('dead', { key: 'k', to: { kind: 'dead', topic: 'orders', group: 'g' } }),
    ])
    expect(stage.broker.last.ids).toEqual(['one', 'two', 'dead'])
  })

  it('keeps the followers behind one that is tried again', async () => {
    const stage = new Stage()
    for (const id of ['a', 'b', 'c']) await stage.send(id, { key: 'k' })
    stage.broker.last.refuse('rejected', true)
    await stage.clock.advance(99)
    expect(stage.broker.sends).toHaveLength(1)
    await stage.clock.advance(1)
    expect(stage.broker.last.ids).toEqual(['a'])
    for (const id of ['b', 'c']) {
      stage.broker.last.confirm()
      await stage.clock.settle()
      expect(stage.broker.last.ids).toEqual([id])
    }
  })

  it('lets the followers go on when the head is given up', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { key: 'k', deadline: 500 })
    await stage.send('b', { key: 'k' })
    await stage.clock.advance(500)
    expect(ended).toMatchObject({ status: 'OutcomeUnknownError timeout', atMs: 500 })
    expect([stage.broker.last.ids, stage.dispatcher.outstanding]).toEqual([['a'], 1])
    await stage.clock.advance(1_000)
    expect(stage.broker.last.ids).toEqual(['b'])
    stage.broker.last.refuse('rejected', false)
    await stage.send('c', { key: 'k' })
    expect(stage.broker.last.ids).toEqual(['c'])
  })

  it('goes on as soon as the answer comes that was too late for whoever asked', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { key: 'k', deadline: 500 })
    const { ended: next } = await stage.send('b', { key: 'k' })
    await stage.clock.advance(600)
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(ended.status).toBe('OutcomeUnknownError timeout')
    expect(stage.of('publish.late').map(({ id, outcome }) => [id, outcome])).toEqual([
      ['a', 'confirmed'],
    ])
    expect([stage.broker.last.ids, next.status]).toEqual([['b'], 'open'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(stage.dispatcher.outstanding).toBe(0)
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('goes on when one that waits behind ends before it is its turn', async () => {
    const stage = new Stage()
    await stage.send('a', { key: 'k' })
    const { ended } = await stage.send('b', { key: 'k', deadline: 200 })
    await stage.send('c', { key: 'k' })
    await stage.clock.advance(200)
    expect(ended.status).toBe('PublishRefusedError not-sent')
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['c'])
  })

  it('forgets a key with its last message', async () => {
    const stage = new Stage({ answer: () => CONFIRMED })
    const all = Array.from({ length: 300 }, (_, n) => stage.send(`${n}`, { key: `k${n % 7}` }))
    const ends = await Promise.all(all)
    expect(ends.every(({ ended }) => ended.status === 'confirmed')).toBe(true)
    expect(stage.dispatcher.outstanding).toBe(0)
    expect(await stage.leakedTimers()).toBe(0)
  })
})

describe('the gate where a run of a key is kept together', () => {
  it('hands over what is there of a key in one send, in order, and the rest after it', async () => {
    const stage = new Stage({ capabilities: together })
    await Promise.all(['a', 'b', 'c'].map((id) => stage.send(id, { key: 'k' })))
    await Promise.all(['d', 'e'].map((id) => stage.send(id, { key: 'k' })))
    expect(stage.broker.sends.map(({ ids }) => ids)).toEqual([['a', 'b', 'c']])
    stage.broker.last.confirm(0, 2)
    await stage.clock.settle()
    expect(stage.broker.sends).toHaveLength(1)
    stage.broker.sends[0]?.confirm(2, 3)
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['d', 'e'])
  })

  it('tries what stood behind a failed one again behind it, in order, at no attempt of its own', async () => {
    const stage = new Stage({ capabilities: together })
    const all = ['a', 'b', 'c', 'd'].map((id) => stage.send(id, { key: 'k' }))
    const ends = (await Promise.all(all)).map(({ ended }) => ended)
    stage.broker.last.refuse('predecessor', true, 2, 4)
    stage.broker.last.confirm(0, 1)
    stage.broker.last.refuse('rejected', true, 1, 2)
    await stage.send('e', { key: 'k' })
    expect(stage.broker.sends).toHaveLength(1)
    await stage.clock.advance(100)
    expect(stage.broker.last.ids).toEqual(['b', 'c', 'd', 'e'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(ends.map(({ sent }) => sent?.attempts)).toEqual([1, 2, 1, 1])
  })

  it('does not put messages of very different deadlines into one send', async () => {
    const stage = new Stage({ capabilities: together })
    await Promise.all([
      stage.send('a', { key: 'k', deadline: 100 }),
      stage.send('b', { key: 'k', deadline: 30_000 }),
    ])
    expect(stage.broker.last.ids).toEqual(['a'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(stage.broker.last.ids).toEqual(['b'])
  })
})

describe('a dispatcher that is told to refuse followers', () => {
  it('refuses everything behind a head that is given up, handed over or not', async () => {
    const stage = new Stage({ followers: 'refuse', capabilities: together })
    const all = ['a', 'b', 'c'].map((id) => stage.send(id, { key: 'k' }))
    const ends = (await Promise.all(all)).map(({ ended }) => ended)
    const { ended: behind } = await stage.send('d', { key: 'k' })
    stage.broker.last.refuse('too-large', false, 0, 1)
    await stage.clock.settle()
    expect(behind.status).toBe('PublishRefusedError predecessor')
    stage.broker.last.refuse('predecessor', true, 1, 2)
    stage.broker.last.lose('connection-lost', 2, 3)
    await stage.clock.settle()
    expect(ends.map(({ status }) => status)).toEqual([
      'TooLargeError too-large',
      'PublishRefusedError predecessor',
      'OutcomeUnknownError connection-lost',
    ])
    const { ended: next } = await stage.send('e', { key: 'k' })
    expect(stage.broker.last.ids).toEqual(['e'])
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(next.status).toBe('confirmed')
  })

  it('ends each once when several of a key are out of time in the same instant', async () => {
    const stage = new Stage({ followers: 'refuse' })
    stage.broker.opening = () => new Promise(() => undefined)
    const all = ['a', 'b', 'c'].map((id) => stage.send(id, { key: 'k', deadline: 500 }))
    const ends = (await Promise.all(all)).map(({ ended }) => ended)
    await stage.clock.advance(500)
    expect(ends.map(({ status }) => status)).toEqual([
      'PublishRefusedError not-sent',
      'PublishRefusedError predecessor',
      'PublishRefusedError predecessor',
    ])
    expect(stage.dispatcher.outstanding).toBe(0)
  })
})

describe('one stalled destination', () => {
  it('does not delay the outcomes of 255 others', async () => {
    const stage = new Stage({ answer: ({ to }) => (isTo(to, 't0') ? null : CONFIRMED) })
    const all = Array.from({ length: 2_560 }, (_, n) => stage.send(`${n}`, { to: `t${n % 256}` }))
    const ends = (await Promise.all(all)).map(({ ended }) => ended)
    const open = ends.filter(({ status }) => status === 'open')
    expect(open).toHaveLength(10)
    expect(ends.filter(({ status, atMs }) => status === 'confirmed' && atMs === 0)).toHaveLength(
      2_550,
    )
  })

  it('leaves room in the buffer for the others', async () => {
    const bounds = { messages: 100, bytes: 1_000_000, whenFull: 'wait', waitMs: 5_000 } as const
    const stage = new Stage({
      bounds,
      answer: ({ to }) => (isTo(to, 'stalled') ? null : CONFIRMED),
    })
    await stage.send('first', { to: 'healthy' })
    for (let n = 0; n < 120; n++) await stage.send(`s${n}`, { to: 'stalled' })
    const ends: Ended[] = []
    for (let n = 0; n < 200; n++) ends.push((await stage.send(`h${n}`, { to: 'healthy' })).ended)
    expect(ends.every(({ status }) => status === 'confirmed')).toBe(true)
    expect(stage.clock.now()).toBe(0)
  })

  it('does not hold up other keys of its own', async () => {
    const stage = new Stage({ answer: ({ orderKey }) => (orderKey === 'stuck' ? null : CONFIRMED) })
    await stage.send('stuck', { key: 'stuck' })
    const ends = await Promise.all(
      Array.from({ length: 500 }, (_, n) => stage.send(`${n}`, { key: `k${n % 9}` })),
    )
    expect(ends.every(({ ended }) => ended.status === 'confirmed')).toBe(true)
  })
})

function isTo(to: Envelope['to'], topic: string): boolean {
  return to.kind === 'topic' && to.topic === topic
}

/**
 * A broker that meets every envelope with a fate of its own, at a time of its own, and judges what is
 * stored: a later message of a key only after the earlier ones are stored or have ended.
 */
class Judge {
  readonly stored: string[] = []
  readonly violations: string[] = []
  readonly ends = new Map<string, Ended>()
  readonly #stage: Stage
  readonly #chance: () => number
  readonly #together: boolean
  readonly #unresolved = new Map<string, number>()

  constructor(stage: Stage, seed: number, keptTogether: boolean) {
    this.#stage = stage
    const random = seededRandom(seed)
    this.#chance = () => random.next()
    this.#together = keptTogether
    stage.broker.sender = () => ({ send: this.#send.bind(this), close: () => Promise.resolve() })
  }

  /** Ends that are not what became of the message. */
  lies(): string[] {
    return [...this.ends].flatMap(([id, { status }]) => {
      const stored = this.stored.includes(id)
      const isTrue = status === 'confirmed' ? stored : status.startsWith('Outcome') || !stored
      return status === 'open' || !isTrue ? [`${id} ended ${status}`] : []
    })
  }

  #send(batch: readonly Envelope[], deadline: Deadline, report: Report): void {
    const runs = runsOf(batch)
    for (const [key, indexes] of runs) {
      if (key === null) continue
      const open = this.#unresolved.get(key) ?? 0
      if (open > 0) this.violations.push(`two sends of key ${key} are unresolved`)
      if (!this.#together && indexes.length > 1) this.violations.push(`a run of key ${key}`)
      this.#unresolved.set(key, open + indexes.length)
    }
    for (const [key, indexes] of runs) this.#meet(batch, indexes, key, deadline, report)
  }

  /** One after the other, as a partition or channel does; what follows a failed one is refused. */
  #meet(
    batch: readonly Envelope[],
    [index, ...others]: number[],
    key: string | null,
    deadline: Deadline,
    report: Report,
    failed = false,
  ): void {
    if (index === undefined) return
    const { clock } = this.#stage
    clock.after(this.#chance() * 40, () => {
      const fate = failed ? ({ ...refuse('predecessor'), stores: false } as const) : this.#fate()
      if (fate.stores) this.#store(batch[index] as Envelope)
      const answerMs =
        fate.outcome === null ? Math.max(0, deadline - clock.now()) : this.#chance() * 20
      clock.after(answerMs, () => {
        if (key !== null) this.#unresolved.set(key, (this.#unresolved.get(key) ?? 0) - 1)
        report(index, index + 1, fate.outcome ?? unknown('timeout'))
      })
      const stops = key !== null && fate.outcome !== CONFIRMED
      this.#meet(batch, others, key, deadline, report, failed || stops)
    })
  }

  #fate(): { readonly outcome: SendOutcome | null; readonly stores: boolean } {
    const roll = this.#chance()
    if (roll < 0.55) return { outcome: CONFIRMED, stores: true }
    if (roll < 0.65) return { ...refuse('rejected'), stores: false }
    if (roll < 0.7) return { outcome: refused('unroutable', false), stores: false }
    if (roll < 0.8) return { outcome: unknown('unanswered'), stores: true }
    if (roll < 0.9) return { outcome: unknown('unanswered'), stores: false }
    return { outcome: null, stores: roll < 0.95 }
  }

  #store({ id, orderKey }: Envelope): void {
    if (id === null || this.stored.includes(id)) return
    for (const [earlier, ended] of this.ends) {
      if (earlier === id) break
      const sameKey = orderKey !== null && earlier.startsWith(`${orderKey}-`)
      if (sameKey && !this.stored.includes(earlier) && ended.status === 'open') {
        this.violations.push(`${id} is stored before ${earlier}`)
      }
    }
    this.stored.push(id)
  }
}

function runsOf(batch: readonly Envelope[]): Map<string | null, number[]> {
  const runs = new Map<string | null, number[]>()
  for (const [index, { orderKey }] of batch.entries()) {
    runs.set(orderKey, [...(runs.get(orderKey) ?? []), index])
  }
  return runs
}

function refuse(code: 'rejected' | 'predecessor'): { outcome: SendOutcome } {
  return { outcome: refused(code, true) }
}

describe('in every interleaving of refusals, unknown outcomes and late answers', () => {
  it.each([
    ['one message of a key at a time', false],
    ['runs of a key together', true],
  ])('order holds and every send ends honestly, %s', async (_name, keptTogether) => {
    const message = fc.record({
      key: fc.constantFrom(null, 'a', 'b', 'c'),
      afterMs: fc.integer({ min: 0, max: 30 }),
      deadlineMs: fc.constantFrom(300, 1_000, 5_000),
    })
    const messages = fc.array(message, { minLength: 1, maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(messages, fc.nat(), async (all, seed) => {
        const stage = new Stage({
          seed,
          capabilities: { keyRunsInOneSend: keptTogether },
          retry: { attempts: 8, backoff: constant(15) },
          breaker: { volumeThreshold: 1_000_000 },
        })
        const judge = new Judge(stage, seed, keptTogether)
        for (const [index, { key, afterMs, deadlineMs }] of all.entries()) {
          const deadline = stage.clock.now() + deadlineMs
          const id = `${key ?? 'none'}-${index}`
          judge.ends.set(id, (await stage.send(id, { key, deadline })).ended)
          await stage.clock.advance(afterMs)
        }
        await stage.clock.advance(6_000)
        expect(judge.violations).toEqual([])
        expect(judge.lies()).toEqual([])
        expect(stage.dispatcher.outstanding).toBe(0)
        expect(await stage.leakedTimers()).toBe(0)
      }),
      { numRuns: RUNS },
    )
  })
})
