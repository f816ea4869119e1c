import assert from 'node:assert/strict'

import { isHoldfastError } from '../../../src/contract/errors.ts'
import type { ClaimResult, InboxStore } from '../../../src/contract/store.ts'
import type { Case } from '../case.ts'
import { Gate } from '../gate.ts'
import { inboxCase, losesCommits, messages, type Desk } from './desk.ts'
import type { InboxHarness } from './harness.ts'

/** A first transaction that holds an id until it is let go, and a second that wants it meanwhile. */
async function contend(
  desk: Desk<unknown>,
  end: 'done' | 'failed' | 'rejects',
): Promise<{ first: PromiseSettledResult<readonly ClaimResult[]>; second: ClaimResult }> {
  const [one, other] = [await desk.store(), await desk.store()]
  const hold = new Gate()
  const started = new Gate()
  const running = desk.runWith(one, messages(['m']), 'each', async (tx) => {
    await desk.database.effect(tx, 'first')
    started.open()
    await hold.passed
    if (end === 'rejects') throw new Error('the first handler failed')
    return [end]
  })
  await desk.within('the first transaction to start', started.passed)
  const second = desk.runUntilFree(other, messages(['m'])[0]!)
  // Time for the second to meet the first; that it need not is why both orders are right.
  await new Promise<void>((resolve) => desk.clock.after(30, resolve))
  hold.open()
  const [first] = await Promise.allSettled([running])
  return { first, second: await second }
}

function statusOf(first: PromiseSettledResult<readonly ClaimResult[]>): unknown {
  return first.status === 'fulfilled' ? first.value : 'rejected'
}

async function everyone(
  desk: Desk<unknown>,
  stores: readonly InboxStore<unknown>[],
  copies: number,
): Promise<readonly ClaimResult[]> {
  const runs = stores.flatMap((store) =>
    Array.from({ length: copies }, () => desk.runUntilFree(store, messages(['m'])[0]!)),
  )
  return Promise.all(runs)
}

/** Several transactions at once, and one whose end nobody knows. */
export const concurringCases: readonly Case<InboxHarness>[] = [
  inboxCase('makes a concurrent duplicate wait, then skips it after a commit', [], async (desk) => {
    const { first, second } = await contend(desk, 'done')
    assert.deepEqual(statusOf(first), ['committed'])
    assert.equal(second, 'duplicate')
    assert.deepEqual(await desk.effects(), ['first'])
  }),

  inboxCase('makes a concurrent duplicate wait, then runs it after a failure', [], async (desk) => {
    const { first, second } = await contend(desk, 'failed')
    assert.deepEqual(statusOf(first), ['failed'])
    assert.equal(second, 'committed')
    assert.deepEqual(await desk.effects(), ['m'])
  }),

  inboxCase(
    'makes a concurrent duplicate wait, then runs it after a rollback',
    [],
    async (desk) => {
      const { first, second } = await contend(desk, 'rejects')
      assert.equal(statusOf(first), 'rejected')
      assert.equal(second, 'committed')
      assert.deepEqual(await desk.effects(), ['m'])
    },
  ),

  inboxCase('makes one effect of 50 duplicates at 8 consumers', [], async (desk) => {
    const stores = await Promise.all(Array.from({ length: 8 }, () => desk.store()))
    const results = await everyone(desk, stores, 50)
    assert.deepEqual(await desk.effects(), ['m'])
    assert.equal(results.filter((result) => result === 'committed').length, 1)
    assert.equal(results.filter((result) => result === 'duplicate').length, 399)
  }),

  inboxCase('keeps the effects of 15 of 16 handlers at once when one fails', [], async (desk) => {
    const store = await desk.store()
    const runs = Array.from({ length: 16 }, (_, n) =>
      desk.runWith(store, messages([`m${n}`]), 'each', async (tx) => {
        await desk.database.effect(tx, `m${n} begins`)
        await new Promise<void>((resolve) => desk.clock.defer(resolve))
        if (n === 7) throw new Error('this one fails')
        await desk.database.effect(tx, `m${n} ends`)
        return ['done']
      }),
    )
    const ended = await Promise.allSettled(runs)
    assert.deepEqual(
      ended.flatMap(({ status }, n) => (status === 'rejected' ? [n] : [])),
      [7],
    )
    const effects = await desk.effects()
    assert.equal(effects.length, 30)
    assert.ok(effects.every((effect) => !effect.startsWith('m7 ')))
  }),

  inboxCase(
    'calls a commit unknown that was not answered, and knows it later',
    [losesCommits],
    async (desk) => {
      for (const really of ['committed', 'rolled back'] as const) {
        const store = await desk.store()
        const given = messages([really])
        desk.database.loseCommit?.(store, really)
        await assert.rejects(
          desk.run(store, given),
          (error) => isHoldfastError(error) && error.code === 'commit-unknown',
        )
        const result = await desk.runUntilFree(store, given[0]!)
        assert.equal(result, really === 'committed' ? 'duplicate' : 'committed')
      }
      assert.deepEqual(await desk.effects(), ['committed', 'rolled back'])
    },
  ),
]
