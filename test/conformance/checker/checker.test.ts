import fc from 'fast-check'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { draft } from '../broker/envelopes.ts'
import { check } from './checker.ts'
import {
  contentHash,
  History,
  readHistory,
  type Entry,
  type Facts,
  type Operation,
} from './history.ts'
import type { Expectations, Property } from './verdict.ts'

/** A history in the making; every line is a millisecond after the one before. */
class Story {
  readonly entries: Entry[] = []

  tell(proc: string, op: Operation, phase: Entry['phase'], facts: Facts = {}): this {
    const seq = this.entries.length
    const t_mono = seq * 1e6
    this.entries.push({ run: 'r', proc, pid: 1, seq, t_mono, t_wall: seq, op, phase, ...facts })
    return this
  }

  publish(n: number, phase: 'ok' | 'fail' | 'info' = 'ok', key = 'k'): this {
    const sent = { msgId: `p-${key}-${n}`, producer: 'p', key, n, hash: `h${n}` }
    return this.tell('producer', 'publish', 'invoke', sent).tell('producer', 'publish', phase, sent)
  }

  deliver(n: number, facts: Facts = {}): this {
    const got = { msgId: `p-k-${n}`, group: 'g', delivery: `d${n}`, hash: `h${n}`, attempt: 1 }
    return this.tell('consumer', 'deliver', 'ok', { ...got, ...facts })
  }

  effect(n: number, facts: Facts = {}): this {
    const made = { msgId: `p-k-${n}`, group: 'g', delivery: `d${n}` }
    return this.tell('consumer', 'effect', 'ok', { ...made, ...facts })
  }

  settle(n: number, facts: Facts = {}): this {
    const how = { msgId: `p-k-${n}`, group: 'g', delivery: `d${n}`, outcome: 'ack' }
    return this.tell('consumer', 'settle', 'ok', { ...how, ...facts })
  }

  dead(n: number, facts: Facts = {}): this {
    const seen = { msgId: `p-k-${n}`, group: 'g', reason: 'attempts-exhausted', attempt: 10 }
    return this.tell('reader', 'dlq_seen', 'ok', { ...seen, ...facts })
  }

  handle(n: number): this {
    return this.deliver(n).effect(n).settle(n)
  }

  end(): readonly Entry[] {
    return this.tell('producer', 'process_end', 'ok').tell('consumer', 'process_end', 'ok').entries
  }
}

/** Five messages published, handled once each, in order, by processes that ended well. */
function goodStory(): Story {
  const story = new Story()
  for (let n = 0; n < 5; n++) story.publish(n)
  for (let n = 0; n < 5; n++) story.handle(n)
  return story
}

function broken(entries: readonly Entry[], expected?: Expectations): readonly Property[] {
  return [...new Set(check(entries, expected).violations.map(({ property }) => property))]
}

const strict: Expectations = { inbox: true, attemptLimit: 10, duplicates: 0 }

describe('check', () => {
  it('passes a run in which everything went well', () => {
    const verdict = check(goodStory().end(), { ...strict, demands: { published: 5, delivered: 5 } })
    expect(verdict.violations).toEqual([])
    expect(verdict.result).toBe('pass')
  })

  it('passes a message that ended unknown and never came', () => {
    expect(broken(goodStory().publish(5, 'info').end(), strict)).toEqual([])
  })

  it('counts a publish without an answer as unknown', () => {
    const story = goodStory().tell('producer', 'publish', 'invoke', {
      msgId: 'p-k-5',
      producer: 'p',
      key: 'k',
      n: 5,
    })
    expect(check(story.end(), strict).counts.unknown).toBe(1)
  })

  it('passes a message handed out again after its process was killed', () => {
    const story = goodStory().publish(5).deliver(5)
    story.tell('other', 'deliver', 'ok', { msgId: 'p-k-5', group: 'g', delivery: 'x', attempt: 1 })
    story.tell('other', 'effect', 'ok', { msgId: 'p-k-5', group: 'g', delivery: 'x' })
    story.tell('other', 'settle', 'ok', { group: 'g', delivery: 'x', outcome: 'ack' })
    const entries = story.tell('other', 'process_end', 'ok').entries
    const verdict = check(entries, { inbox: true, duplicates: 1, demands: { killed: 1 } })
    expect(verdict.violations).toEqual([])
  })

  it('takes the last word about a transaction', () => {
    const row = { msgId: 'p-k-5', producer: 'p', key: 'k', n: 5, tx: 't1' }
    const story = goodStory().tell('producer', 'enqueue', 'invoke', row)
    story.tell('producer', 'tx_commit', 'info', { tx: 't1' })
    expect(check(story.entries).counts.unknown).toBe(1)
    story.tell('producer', 'tx_commit', 'ok', { tx: 't1' })
    expect(broken(story.end(), strict)).toEqual(['C1 no loss'])
  })

  describe('finds in a bad history exactly the property it breaks', () => {
    const bad: readonly (readonly [Property, string, () => readonly Entry[], Expectations?])[] = [
      ['C1 no loss', 'a confirmed message that never came', () => goodStory().publish(5).end()],
      [
        'C1 no loss',
        'a committed row that never came',
        () =>
          goodStory()
            .tell('producer', 'enqueue', 'invoke', {
              msgId: 'p-k-5',
              producer: 'p',
              key: 'k',
              n: 5,
              tx: 't',
            })
            .tell('producer', 'tx_commit', 'ok', { tx: 't' })
            .end(),
      ],
      [
        'C1 no loss',
        'a message one group never got',
        () => goodStory().end(),
        { ...strict, groups: ['g', 'h'] },
      ],
      [
        'C2 no invention',
        'a message nobody sent',
        () => goodStory().deliver(9).settle(9, { outcome: 'release' }).end(),
      ],
      [
        'C2 no invention',
        'a refused message that came',
        () => goodStory().publish(5, 'fail').handle(5).end(),
      ],
      [
        'C2 no invention',
        'a rolled back row that came',
        () =>
          goodStory()
            .tell('producer', 'enqueue', 'invoke', {
              msgId: 'p-k-5',
              producer: 'p',
              key: 'k',
              n: 5,
              tx: 't',
            })
            .tell('producer', 'tx_rollback', 'ok', { tx: 't' })
            .handle(5)
            .end(),
      ],
      [
        'C2 no invention',
        'other content',
        () => goodStory().publish(5).deliver(5, { hash: 'other' }).effect(5).settle(5).end(),
      ],
      [
        'C3 effect once',
        'two effects of one message',
        () => goodStory().publish(5).deliver(5).effect(5).effect(5).settle(5).end(),
      ],
      [
        'C3 effect once',
        'an acknowledged message without effect',
        () => goodStory().publish(5).deliver(5).settle(5).end(),
      ],
      [
        'C4 order',
        'first deliveries swapped',
        () =>
          goodStory()
            .publish(5)
            .publish(6)
            .deliver(6)
            .deliver(5)
            .effect(5)
            .effect(6)
            .settle(5)
            .settle(6)
            .end(),
      ],
      [
        'C4 order',
        'effects swapped',
        () =>
          goodStory()
            .publish(5)
            .publish(6)
            .deliver(5)
            .deliver(6)
            .effect(6)
            .effect(5)
            .settle(5)
            .settle(6)
            .end(),
      ],
      [
        'C5 honest dead letters',
        'a dead letter without a reason',
        () =>
          goodStory()
            .publish(5)
            .deliver(5)
            .settle(5, { outcome: 'dead' })
            .dead(5, { reason: '' })
            .end(),
      ],
      [
        'C5 honest dead letters',
        'given up too early',
        () =>
          goodStory()
            .publish(5)
            .deliver(5)
            .settle(5, { outcome: 'dead' })
            .dead(5, { attempt: 3 })
            .end(),
      ],
      [
        'C5 honest dead letters',
        'dead although it had its effect',
        () => goodStory().publish(5).handle(5).dead(5).end(),
      ],
      [
        'C5 honest dead letters',
        'poison that was not found',
        () => goodStory().end(),
        { ...strict, poison: ['p-k-3'] },
      ],
      [
        'C6 settle once',
        'settled twice',
        () => goodStory().publish(5).handle(5).settle(5, { outcome: 'release' }).end(),
      ],
      [
        'C6 settle once',
        'never settled by a process that ended well',
        () => goodStory().publish(5, 'info').deliver(5).end(),
      ],
      [
        'C6 settle once',
        'acknowledged before its effect',
        () => goodStory().publish(5).deliver(5).settle(5).effect(5).end(),
      ],
      [
        'C7 bounded duplicates',
        'a duplicate in a run without faults',
        () => goodStory().deliver(4, { delivery: 'again' }).settle(4, { delivery: 'again' }).end(),
      ],
      [
        'C8 liveness',
        'a first delivery long after the last fault',
        () =>
          goodStory()
            .publish(5)
            .tell('rig', 'fault_stop', 'ok')
            .tell('rig', 'process_end', 'ok')
            .handle(5)
            .end(),
        { ...strict, drainedWithinMs: 1 },
      ],
      [
        'C8 liveness',
        'a publish answered after its deadline',
        () => goodStory().end(),
        { ...strict, publishWithinMs: 0 },
      ],
      [
        'C9 residue',
        'rows left in the outbox',
        () => goodStory().end(),
        { ...strict, residue: { outbox: 2 } },
      ],
      [
        'C10 resources',
        'memory over its bound',
        () => goodStory().tell('consumer', 'lib_metric', 'ok', { name: 'rss', value: 11 }).end(),
        { ...strict, bounds: { rss: 10 } },
      ],
      [
        'C11 honest metrics',
        'a counter that is off by one',
        () => goodStory().end(),
        { ...strict, metrics: { acked: 4 } },
      ],
      [
        'C12 not vacuous',
        'a fault test without its fault',
        () => goodStory().end(),
        { ...strict, demands: { faults: 1 } },
      ],
    ]

    it.each(
      bad.map(([property, what, entries, expected]) => ({ property, what, entries, expected })),
    )('$property: $what', ({ property, entries, expected }) => {
      expect(broken(entries(), expected ?? strict)).toEqual([property])
    })

    it('covers every property', () => {
      expect(new Set(bad.map(([property]) => property)).size).toBe(12)
    })
  })

  it('calls a run that exercised nothing invalid, not passed', () => {
    expect(check([], { demands: { published: 1 } }).result).toBe('invalid')
  })

  it('calls a run that broke a promise failed even where it exercised too little', () => {
    const entries = goodStory().publish(5).end()
    expect(check(entries, { demands: { faults: 1 } }).result).toBe('fail')
  })

  it('says where in a run messages were lost', () => {
    const story = new Story()
    for (let n = 0; n < 5; n++) story.publish(n)
    for (const n of [1, 3]) story.handle(n)
    const text = check(story.end(), { ordered: false }).violations[0]?.text
    expect(text).toContain('3 confirmed messages never finished in group g')
    expect(text).toContain('prefix')
    expect(text).toContain('middle')
    expect(text).toContain('postfix')
  })

  it('finds one injected violation in a random history, and nothing else', () => {
    const injections = {
      'C1 no loss': (story: Story, n: number) => story.publish(n),
      'C2 no invention': (story: Story, n: number) =>
        story.deliver(n).settle(n, { outcome: 'release' }),
      'C3 effect once': (story: Story, n: number) => story.publish(n).deliver(n).settle(n),
      'C6 settle once': (story: Story, n: number) => story.publish(n).handle(n).settle(n),
      'C7 bounded duplicates': (story: Story, n: number) =>
        story.publish(n).handle(n).deliver(n, { delivery: 'x' }).settle(n, { delivery: 'x' }),
    }
    const name = fc.constantFrom(...(Object.keys(injections) as (keyof typeof injections)[]))
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 40 }), name, (confirmed, property) => {
        const story = new Story()
        confirmed.forEach((ok, n) => story.publish(n, ok ? 'ok' : 'info'))
        confirmed.forEach((ok, n) => ok && story.handle(n))
        injections[property](story, confirmed.length)
        expect(broken(story.end(), { ...strict, ordered: property !== 'C1 no loss' })).toEqual([
          property,
        ])
      }),
    )
  })
})

describe('History', () => {
  it('writes lines that any number of processes can share, read back in order', () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-history-'))
    try {
      const file = join(folder, 'history.jsonl')
      const [one, other] = [new History(file, 'r', 'one'), new History(file, 'r', 'other')]
      one.write('publish', 'invoke', { msgId: 'p-k-0', producer: 'p', key: 'k', n: 0 })
      other.write('deliver', 'ok', { msgId: 'p-k-0', group: 'g', delivery: '1' })
      one.write('publish', 'ok', { msgId: 'p-k-0' })
      const entries = readHistory([file])
      expect(entries.map(({ proc, op, phase, seq }) => [proc, op, phase, seq])).toEqual([
        ['one', 'publish', 'invoke', 0],
        ['other', 'deliver', 'ok', 0],
        ['one', 'publish', 'ok', 1],
      ])
      expect(entries.every(({ t_wall, pid }) => t_wall > 0 && pid === process.pid)).toBe(true)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it('hashes content so that any change shows, own headers aside', () => {
    const base = draft('t', { id: 'x', key: 'k', body: 'b', headers: [['a', '1']] })
    const hash = contentHash(base)
    expect(contentHash({ ...base, headers: [...base.headers, ['holdfast-attempt', '2']] })).toBe(
      hash,
    )
    expect(contentHash({ ...base, body: null })).not.toBe(hash)
    expect(contentHash({ ...base, body: new Uint8Array(0) })).not.toBe(
      contentHash({ ...base, body: null }),
    )
    expect(contentHash({ ...base, key: null })).not.toBe(hash)
    expect(contentHash({ ...base, headers: [['a', '2']] })).not.toBe(hash)
  })
})
