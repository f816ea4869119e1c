import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HoldfastError, PermanentError } from '../../src/contract/errors.ts'
import { decide, type Terms, type Tried } from '../../src/consume/decide.ts'
import {
  ABORTED,
  BUSY,
  DEFERRED,
  DONE,
  DUPLICATE,
  EXHAUSTED,
  type Outcome,
} from '../../src/consume/outcome.ts'
import { constant } from '../../src/policy/backoff.ts'
import { FixedRandom } from './stage.ts'

const boom = new Error('boom')
const failed: Outcome = { kind: 'failed', error: boom }
const away: Outcome = { kind: 'unavailable', error: boom }
const random = new FixedRandom()

function terms(given: Partial<Terms> = {}): Terms {
  return {
    attempts: 3,
    backoff: constant(2_000),
    onExhausted: 'dead-letter',
    retryDelay: 'native',
    ...given,
  }
}

function tried(given: Partial<Tried> = {}): Tried {
  const made = (given.attempt ?? 1) - 1
  return {
    attempt: 1,
    made,
    ordered: false,
    levelsMs: [1_000, 5_000],
    uncounted: 0,
    breakerOpen: false,
    ...given,
  }
}

function verdict(outcome: Outcome, of: Partial<Tried> = {}, under: Partial<Terms> = {}): unknown {
  return decide(outcome, tried(of), terms(under), random)
}

describe('decide', () => {
  it.each([
    ['what is done', DONE],
    ['a duplicate', DUPLICATE],
  ])('acknowledges %s', (_what, outcome) => {
    expect(verdict(outcome)).toEqual({ kind: 'ack' })
    expect(verdict(outcome, { attempt: 99 })).toEqual({ kind: 'ack' })
  })

  it('releases what was aborted, whatever the attempt', () => {
    expect(verdict(ABORTED, { attempt: 3 })).toEqual({ kind: 'release' })
  })

  it('puts back at once what was put off, without counting', () => {
    expect(verdict(DEFERRED, { attempt: 3 })).toEqual({ kind: 'wait', ms: 0, made: 2 })
  })

  it.each([
    ['busy', BUSY],
    ['unavailable', away],
    ['commit-unknown', { kind: 'failed', error: new HoldfastError('commit-unknown', '?') }],
  ] as const)('lets %s wait in its lane, never counted, never given up', (_what, outcome) => {
    for (const retryDelay of ['native', 'levels', 'none'] as const) {
      for (const attempt of [1, 3, 50]) {
        const found = decide(outcome, tried({ attempt }), terms({ retryDelay }), random)
        expect(found).toMatchObject({ kind: 'wait', made: attempt - 1 })
      }
    }
  })

  it('lets what is away wait longer and longer, up to 10 s', () => {
    const waits = [0, 1, 2, 10, 100].map((uncounted) => verdict(away, { uncounted }))
    expect(waits).toEqual(
      [100, 200, 400, 5_000, 5_000].map((ms) => ({ kind: 'wait', ms, made: 0 })),
    )
  })

  it('dead-letters poison at once with its reason', () => {
    const poison: Outcome = { kind: 'poison', reason: 'schema', error: boom }
    expect(verdict(poison)).toEqual({ kind: 'dead', reason: 'schema', error: boom, made: 0 })
    expect(verdict(poison, {}, { onExhausted: 'discard' })).toMatchObject({ kind: 'dead' })
  })

  it('dead-letters a permanent error at once', () => {
    const error = new PermanentError('never')
    expect(verdict({ kind: 'failed', error })).toEqual({
      kind: 'dead',
      reason: 'permanent',
      error,
      made: 1,
    })
  })

  it('dead-letters when the attempts are used up, not before', () => {
    expect(verdict(failed, { attempt: 2 })).toMatchObject({ kind: 'retry' })
    expect(verdict(failed, { attempt: 3 })).toEqual({
      kind: 'dead',
      reason: 'attempts-exhausted',
      error: boom,
      made: 3,
    })
  })

  it('dead-letters what had used its attempts up before this one, with those it made', () => {
    expect(verdict(EXHAUSTED, { attempt: 4 })).toEqual({
      kind: 'dead',
      reason: 'attempts-exhausted',
      error: null,
      made: 3,
    })
  })

  it('discards instead only where that is written', () => {
    const under = { onExhausted: 'discard' } as const
    const discard = { kind: 'discard', reason: 'attempts-exhausted', made: 3 }
    expect(verdict(failed, { attempt: 3 }, under)).toEqual(discard)
    expect(verdict(EXHAUSTED, { attempt: 4 }, under)).toEqual(discard)
  })

  it.each([
    { ordered: false, retryDelay: 'native', ms: 10, kind: 'retry' },
    { ordered: false, retryDelay: 'native', ms: 2_000, kind: 'retry' },
    { ordered: false, retryDelay: 'levels', ms: 999, kind: 'wait' },
    { ordered: false, retryDelay: 'levels', ms: 1_000, kind: 'retry' },
    { ordered: false, retryDelay: 'levels', ms: 900_000, kind: 'retry' },
    { ordered: false, retryDelay: 'none', ms: 2_000, kind: 'wait' },
    { ordered: true, retryDelay: 'native', ms: 2_000, kind: 'wait' },
    { ordered: true, retryDelay: 'levels', ms: 2_000, kind: 'wait' },
    { ordered: true, retryDelay: 'none', ms: 2_000, kind: 'wait' },
  ] as const)(
    'retries by $kind: ordered $ordered, delays $retryDelay, after $ms ms',
    ({ ordered, retryDelay, ms, kind }) => {
      const under = { retryDelay, backoff: constant(ms) }
      expect(verdict(failed, { ordered }, under)).toEqual({ kind, ms, made: 1 })
    },
  )

  it('waits in the lane where there are no levels', () => {
    const found = verdict(failed, { levelsMs: [] }, { retryDelay: 'levels' })
    expect(found).toMatchObject({ kind: 'wait' })
  })

  it('counts nothing while the breaker is not closed', () => {
    expect(verdict(failed, { attempt: 3, breakerOpen: true })).toMatchObject({
      kind: 'wait',
      made: 2,
    })
  })

  it('sends a delay that is not over on its way without counting', () => {
    const early: Outcome = { kind: 'early', ms: 700 }
    const levels = { retryDelay: 'levels' } as const
    expect(verdict(early, { attempt: 3 }, levels)).toEqual({ kind: 'retry', ms: 700, made: 2 })
    expect(verdict(early, { ordered: true }, levels)).toEqual({ kind: 'wait', ms: 700, made: 0 })
    expect(verdict(early)).toEqual({ kind: 'retry', ms: 700, made: 0 })
    expect(verdict(early, {}, { retryDelay: 'none' })).toEqual({ kind: 'wait', ms: 700, made: 0 })
  })

  it('never retries before the back-off says so, and never beyond the attempts', () => {
    fc.assert(
      fc.property(
        fc.record({
          attempt: fc.integer({ min: 1, max: 20 }),
          ordered: fc.boolean(),
          ms: fc.integer({ min: 0, max: 1_000_000 }),
          attempts: fc.integer({ min: 1, max: 20 }),
          retryDelay: fc.constantFrom('native' as const, 'levels' as const, 'none' as const),
        }),
        ({ attempt, ordered, ms, attempts, retryDelay }) => {
          const under = terms({ attempts, retryDelay, backoff: constant(ms) })
          const found = decide(failed, tried({ attempt, ordered }), under, random)
          if (attempt >= attempts) expect(found.kind).toBe('dead')
          else expect(found).toMatchObject({ ms, made: attempt })
          if (ordered) expect(found.kind).not.toBe('retry')
        },
      ),
    )
  })
})
