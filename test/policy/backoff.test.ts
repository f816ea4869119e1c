import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { OptionError } from '../../src/contract/errors.ts'
import { constant, exponential } from '../../src/policy/backoff.ts'
import { seededRandom } from '../support/seeded-random.ts'

const random = seededRandom()

describe('exponential', () => {
  it('grows by the factor up to the longest wait', () => {
    const backoff = exponential({ initialMs: 100, maxMs: 1_000, factor: 3, jitter: 'none' })
    const delays = [1, 2, 3, 4].map((attempt) => backoff.delayFor(attempt, random))
    expect(delays).toEqual([100, 300, 900, 1_000])
  })

  it('keeps every jittered wait between 0 and the plain one', () => {
    const plain = exponential({ jitter: 'none' })
    const jittered = exponential()
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.nat(), (attempt, seed) => {
        const delay = jittered.delayFor(attempt, seededRandom(seed))
        expect(delay).toBeGreaterThanOrEqual(0)
        expect(delay).toBeLessThanOrEqual(plain.delayFor(attempt, random))
      }),
    )
  })

  it('answers the same question the same way: asking changes nothing', () => {
    const backoff = exponential({ jitter: 'none' })
    expect(backoff.delayFor(4, random)).toBe(backoff.delayFor(4, random))
  })

  it.each<[object, string]>([
    [{ initialMs: 0 }, 'backoff.initialMs: got 0'],
    [{ initialMs: 10, maxMs: 9 }, 'backoff.maxMs: got 9'],
    [{ factor: 0.5 }, 'backoff.factor: got 0.5'],
    [{ jitter: 'half' as 'full' }, 'backoff.jitter: got "half"'],
    [{ initial: 1 }, 'backoff.initial: got 1'],
  ])('refuses %o', (options, text) => {
    expect(() => exponential(options)).toThrow(OptionError)
    expect(() => exponential(options)).toThrow(text)
  })
})

describe('constant', () => {
  it('waits the same every time', () => {
    expect([1, 9].map((attempt) => constant(70).delayFor(attempt, random))).toEqual([70, 70])
  })

  it('refuses a negative wait', () => {
    expect(() => constant(-1)).toThrow('backoff.ms: got -1')
  })
})
