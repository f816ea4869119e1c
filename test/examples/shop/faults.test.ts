import { describe, expect, it } from 'vitest'

import {
  fateOf,
  usualFailures,
  withSomeFailures,
  type Fate,
} from '../../../examples/shop/charge-failures.ts'
import { killPlan } from '../../../examples/shop/kill-plan.ts'

const ids = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `order-${index}`)

function kinds(plan: Parameters<typeof fateOf>[0], orders: readonly string[]): Fate['kind'][] {
  return orders.map((id) => fateOf(plan, id).kind)
}

describe('fateOf', () => {
  it('lets about 2 % fail for a while and 0.2 % for ever', () => {
    const all = kinds(usualFailures(1), ids(50_000))
    const share = (kind: Fate['kind']): number => all.filter((one) => one === kind).length / 50_000
    expect(share('transient')).toBeGreaterThan(0.017)
    expect(share('transient')).toBeLessThan(0.023)
    expect(share('permanent')).toBeGreaterThan(0.001)
    expect(share('permanent')).toBeLessThan(0.003)
  })

  it('decides the same for the same seed, and otherwise for another', () => {
    expect(kinds(usualFailures(7), ids(2_000))).toEqual(kinds(usualFailures(7), ids(2_000)))
    expect(kinds(usualFailures(7), ids(2_000))).not.toEqual(kinds(usualFailures(8), ids(2_000)))
  })

  it('lets some fail once and some twice', () => {
    const fates = ids(5_000).map((id) => fateOf(usualFailures(1), id))
    const attempts = fates.flatMap((fate) => (fate.kind === 'transient' ? [fate.attempts] : []))
    expect(new Set(attempts)).toEqual(new Set([1, 2]))
  })
})

describe('withSomeFailures', () => {
  it.each([3, 10, 200])('makes one of %i orders fail in each way', (count) => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const all = kinds(withSomeFailures(usualFailures(seed), ids(count)), ids(count))
      expect(all).toContain('transient')
      expect(all).toContain('permanent')
      expect(all).toContain(count > 3 ? 'fine' : 'transient')
    }
  })

  it('changes nothing for many orders, and nothing for one or two', () => {
    expect(withSomeFailures(usualFailures(1), ids(20_000))).toEqual(usualFailures(1))
    expect(withSomeFailures(usualFailures(1), ids(2))).toEqual(usualFailures(1))
  })
})

describe('killPlan', () => {
  it('spreads the kills over the work, each in its own part', () => {
    const plan = killPlan(1, 'relay', 4)
    expect(plan).toHaveLength(4)
    plan.forEach(({ at }, index) => {
      expect(at).toBeGreaterThanOrEqual(0.05 + index * 0.2)
      expect(at).toBeLessThan(0.05 + (index + 1) * 0.2)
    })
  })

  it('is another one for each process and seed', () => {
    expect(killPlan(1, 'relay', 3)).toEqual(killPlan(1, 'relay', 3))
    expect(killPlan(1, 'relay', 3)).not.toEqual(killPlan(1, 'intake', 3))
    expect(killPlan(1, 'relay', 3)).not.toEqual(killPlan(2, 'relay', 3))
  })
})
