import { describe, expect, it } from 'vitest'

import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
} from '../../src/contract/errors.ts'
import type { SendOutcome } from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import { constant } from '../../src/policy/backoff.ts'
import { refused, unknown } from '../support/scripted-broker.ts'
import { Stage } from './stage.ts'

const permanent = refused('rejected', false)
const passing = refused('rejected', true)
const lost = unknown('unanswered')

/** What the broker answers attempt by attempt (null: never), and how the send must end, after 1 s at most. */
const table: readonly (readonly [
  name: string,
  answers: readonly (SendOutcome | null)[],
  ended: string,
  facts: { attempts: number; duplicated?: boolean },
])[] = [
  ['confirmed', [CONFIRMED], 'confirmed', { attempts: 1, duplicated: false }],
  [
    'confirmed after the adapter wrote it twice',
    [{ status: 'confirmed', possiblyDuplicated: true }],
    'confirmed',
    { attempts: 1, duplicated: true },
  ],
  ['refused for good', [permanent], 'PublishRefusedError rejected', { attempts: 1 }],
  [
    'refused, then confirmed',
    [passing, CONFIRMED],
    'confirmed',
    { attempts: 2, duplicated: false },
  ],
  [
    'refused, then refused for good',
    [passing, permanent],
    'PublishRefusedError rejected',
    { attempts: 2 },
  ],
  ['unknown, then confirmed', [lost, CONFIRMED], 'confirmed', { attempts: 2, duplicated: true }],
  [
    'unknown, then refused for good',
    [lost, permanent],
    'OutcomeUnknownError unanswered',
    { attempts: 2 },
  ],
  [
    'unknown, then refused until the deadline',
    [lost, passing],
    'OutcomeUnknownError unanswered',
    { attempts: 10 },
  ],
  ['unknown until the deadline', [lost], 'OutcomeUnknownError unanswered', { attempts: 10 }],
  ['refused until the deadline', [passing], 'PublishRefusedError not-sent', { attempts: 10 }],
  ['never answered', [null], 'OutcomeUnknownError timeout', { attempts: 1 }],
  ['refused, then never answered', [passing, null], 'OutcomeUnknownError timeout', { attempts: 2 }],
  ['unknown, then never answered', [lost, null], 'OutcomeUnknownError unanswered', { attempts: 2 }],
  [
    'behind its predecessor, then confirmed',
    [refused('predecessor', true), CONFIRMED],
    'confirmed',
    { attempts: 1, duplicated: false },
  ],
]

describe('a destination that said no', () => {
  it.each([unknown('nacked'), refused('nacked', true)])(
    'is left alone for a second, whatever the back-off says',
    async (nacked) => {
      const sentAt: number[] = []
      const stage = new Stage({
        answer: () => {
          sentAt.push(stage.clock.now())
          return sentAt.length < 3 ? nacked : CONFIRMED
        },
        retry: { attempts: Infinity, backoff: constant(10) },
      })
      const { ended } = await stage.send('a', { deadline: 10_000 })
      await stage.clock.advance(5_000)
      expect(ended.status).toBe('confirmed')
      const waits = sentAt.slice(1).map((at, nth) => at - sentAt[nth]!)
      expect(waits.every((ms) => ms >= 1_000 && ms < 1_200)).toBe(true)
    },
  )
})

describe('a send', () => {
  it.each(table)('that is %s ends %3$s', async (_name, answers, status, facts) => {
    let attempt = 0
    const answer = (): SendOutcome | null => {
      const next = answers[Math.min(attempt++, answers.length - 1)]
      return next === undefined ? null : next
    }
    const stage = new Stage({ answer })
    const { ended } = await stage.send('a', { deadline: 1_000 })
    await stage.clock.advance(1_000)
    expect(ended.status).toBe(status)
    expect(ended.atMs).toBeLessThanOrEqual(1_000)
    const { attempts, possiblyDuplicated } = ended.facts
    expect({ attempts, duplicated: possiblyDuplicated }).toEqual({
      duplicated: undefined,
      ...facts,
    })
    expect(await stage.leakedTimers()).toBe(0)
  })

  it('is sent with the same id and bytes every time', async () => {
    let attempt = 0
    const answer = (): SendOutcome => (++attempt < 4 ? lost : CONFIRMED)
    const stage = new Stage({ answer })
    const { ended } = await stage.send('a')
    await stage.clock.advance(1_000)
    expect(ended.status).toBe('confirmed')
    const envelopes = stage.broker.sends.flatMap(({ batch }) => batch)
    expect(envelopes.map(({ id }) => id)).toEqual(['a', 'a', 'a', 'a'])
    expect(new Set(envelopes)).toHaveLength(1)
  })

  it('says where it is stored', async () => {
    const at = { partition: 3, offset: '4711' }
    const stage = new Stage({ answer: () => ({ status: 'confirmed', at }) })
    const { outcome } = await stage.send('a')
    expect(await outcome).toEqual({ at, attempts: 1, possiblyDuplicated: false, via: 'broker' })
  })

  it('is given up after its attempts with the last word of the broker', async () => {
    const retry = { attempts: 3, backoff: constant(100) }
    const stage = new Stage({ answer: () => passing, retry })
    const { ended } = await stage.send('a')
    await stage.clock.advance(1_000)
    expect(ended).toMatchObject({ status: 'PublishRefusedError rejected', atMs: 200 })
    expect(ended.error).toMatchObject({ attempts: 3, retryable: true, messageId: 'a' })
    expect(stage.of('publish.retry').map(({ attempt, delayMs }) => [attempt, delayMs])).toEqual([
      [1, 100],
      [2, 100],
    ])
  })

  it.each([
    ['unroutable', UnroutableError],
    ['too-large', TooLargeError],
    ['rejected', PublishRefusedError],
  ] as const)('keeps the class of an error of code %s, with its own facts', async (code, type) => {
    const stage = new Stage({ answer: () => refused(code, false) })
    const { ended } = await stage.send('a')
    expect(ended.error).toBeInstanceOf(type)
    expect(ended.error).toMatchObject({ code, topic: 'orders', messageId: 'a', attempts: 1 })
    expect(ended.error?.cause).toBeInstanceOf(PublishRefusedError)
  })

  it('that a sender throws on is unknown, unless the sender was closed', async () => {
    const stage = new Stage()
    const sender = stage.broker.sender('publish')
    stage.broker.sender = () => ({
      ...sender,
      send: () => {
        throw new Error('a defect')
      },
    })
    const { ended } = await stage.send('a', { deadline: 50 })
    await stage.clock.advance(50)
    expect(ended.error).toBeInstanceOf(OutcomeUnknownError)
    expect(ended.error?.message).toContain('a defect')
  })
})

describe('a report', () => {
  it('after the deadline changes nothing and is counted', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a', { deadline: 100 })
    await stage.clock.advance(100)
    expect(ended.status).toBe('OutcomeUnknownError timeout')
    stage.broker.last.confirm()
    await stage.clock.settle()
    expect(ended.status).toBe('OutcomeUnknownError timeout')
    expect(stage.of('publish.late')).toEqual([
      { type: 'publish.late', topic: 'orders', id: 'a', outcome: 'confirmed' },
    ])
    expect(stage.dispatcher.outstanding).toBe(0)
  })

  it('made twice counts once', async () => {
    const stage = new Stage()
    const { ended } = await stage.send('a')
    const { ended: other } = await stage.send('b')
    const [first, second] = stage.broker.sends
    first?.confirm()
    first?.refuse('rejected', false)
    await stage.clock.settle()
    expect([ended.status, other.status]).toEqual(['confirmed', 'open'])
    second?.confirm()
    expect(stage.dispatcher.outstanding).toBe(0)
  })

  it('may come for ranges in any order', async () => {
    const stage = new Stage()
    const all = ['a', 'b', 'c', 'd'].map((id) => stage.send(id))
    const ends = (await Promise.all(all)).map(({ ended }) => ended)
    expect(stage.broker.last.ids).toEqual(['a', 'b', 'c', 'd'])
    stage.broker.last.confirm(3, 4)
    stage.broker.last.refuse('unroutable', false, 1, 3)
    stage.broker.last.lose('unanswered', 0, 1)
    await stage.clock.settle()
    expect(ends.map(({ status }) => status)).toEqual([
      'open',
      'UnroutableError unroutable',
      'UnroutableError unroutable',
      'confirmed',
    ])
  })
})

describe('events', () => {
  it('tell every end', async () => {
    const answers: Record<string, SendOutcome> = { a: CONFIRMED, b: permanent, c: lost }
    const answer = ({ id }: { id: string | null }): SendOutcome => answers[id ?? ''] ?? lost
    const stage = new Stage({ answer, retry: { attempts: 1, backoff: constant(1) } })
    await Promise.all(['a', 'b', 'c'].map((id) => stage.send(id)))
    const ends = stage.events.filter(({ type }) => type.startsWith('publish.'))
    expect(ends.map((event) => [event.type, 'id' in event ? event.id : null])).toEqual([
      ['publish.confirmed', 'a'],
      ['publish.refused', 'b'],
      ['publish.unknown', 'c'],
    ])
  })
})
