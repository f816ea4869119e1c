import assert from 'node:assert/strict'

import { choose, type Case, type LeftOut } from './case.ts'

/** The two functions every test runner has; those of vitest and of node:test both fit. */
export interface TestRunner {
  readonly describe: (name: string, body: () => void) => unknown
  readonly it: (name: string, body: () => Promise<void>) => unknown
}

/**
 * Makes one test per case that fits the harness, and one per reason for which others are left out,
 * so that a report says what was not tested and why. Await it at the top level of a test file.
 */
export async function registerCases<H extends { readonly name: string }>(
  cases: readonly Case<H>[],
  { describe, it }: TestRunner,
  makeHarness: () => NoInfer<H> | Promise<NoInfer<H>>,
): Promise<void> {
  const harness = await makeHarness()
  const { fitting, leftOut } = await choose(cases, harness)
  describe(harness.name, () => {
    for (const one of fitting) it(one.name, () => one.run(harness))
    for (const [reason, names] of byReason(leftOut)) {
      it(`leaves out for want of ${reason}: ${names.join('; ')}`, async () => {
        const again = await choose(cases, harness)
        assert.equal(byReason(again.leftOut).has(reason), true)
      })
    }
  })
}

function byReason<H>(leftOut: readonly LeftOut<H>[]): Map<string, string[]> {
  const reasons = new Map<string, string[]>()
  for (const { case: one, missing } of leftOut) {
    const reason = missing.join(' and ')
    reasons.set(reason, [...(reasons.get(reason) ?? []), one.name])
  }
  return reasons
}
