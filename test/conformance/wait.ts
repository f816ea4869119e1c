import assert from 'node:assert/strict'

import { sleep, type Clock } from '../../src/contract/clock.ts'

const FIRST_LOOK_MS = 1
/** Looking may cost a transaction: rare enough not to be the load that is waited for. */
const SLOWEST_LOOK_MS = 100

/** Resolves once `condition` holds; fails with `what()` when it does not within `limitMs`. */
export async function eventually(
  clock: Clock,
  limitMs: number,
  what: () => string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const giveUpAt = clock.now() + limitMs
  for (let pause = FIRST_LOOK_MS; ; pause = Math.min(pause * 2, SLOWEST_LOOK_MS)) {
    if (await condition()) return
    if (clock.now() >= giveUpAt) assert.fail(`not within ${limitMs} ms: ${what()}`)
    await sleep(clock, pause)
  }
}

/** The promise's result; fails with `what` when it is not settled within `limitMs`. */
export function within<T>(
  clock: Clock,
  limitMs: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const cancel = clock.after(limitMs, () => {
      reject(new assert.AssertionError({ message: `not within ${limitMs} ms: ${what}` }))
    })
    promise.finally(cancel).then(resolve, reject)
  })
}
