import { draw } from './chance.ts'

/** Which charges fail. An order fails when its draw is not above the limit. */
export interface FailurePlan {
  readonly seed: number
  readonly transientUpTo: number
  readonly permanentUpTo: number
}

/** What happens when an order is charged. */
export type Fate =
  | { readonly kind: 'fine' }
  /** The first attempts fail, that many; later ones work. */
  | { readonly kind: 'transient'; readonly attempts: 1 | 2 }
  /** The card is refused for ever: the order belongs into the dead letters. */
  | { readonly kind: 'permanent' }

/** Failures of an input that is large enough: 2 % and 0.2 %. */
export function usualFailures(seed: number): FailurePlan {
  return { seed, transientUpTo: 0.02, permanentUpTo: 0.002 }
}

/** What happens to this order; depends on the plan's seed and the id only, so that a reader can tell it too. */
export function fateOf(plan: FailurePlan, orderId: string): Fate {
  if (draw(plan.seed, 'permanent', orderId) <= plan.permanentUpTo) return { kind: 'permanent' }
  const transient = draw(plan.seed, 'transient', orderId)
  if (transient > plan.transientUpTo) return { kind: 'fine' }
  return { kind: 'transient', attempts: transient <= plan.transientUpTo / 2 ? 1 : 2 }
}

/**
 * Raises the limits of a plan just so far that at least one of these orders fails in each way: a
 * small input would else often show no failure at all.
 */
export function withSomeFailures(plan: FailurePlan, orderIds: readonly string[]): FailurePlan {
  // Of two orders one would be all that is left to charge.
  if (orderIds.length < 3) return plan
  const permanentUpTo = Math.max(plan.permanentUpTo, smallest(plan.seed, 'permanent', orderIds))
  const others = orderIds.filter((id) => draw(plan.seed, 'permanent', id) > permanentUpTo)
  const transientUpTo = Math.max(plan.transientUpTo, smallest(plan.seed, 'transient', others))
  return { ...plan, permanentUpTo, transientUpTo }
}

function smallest(seed: number, kind: string, orderIds: readonly string[]): number {
  return orderIds.reduce((least, id) => Math.min(least, draw(seed, kind, id)), 1)
}
