import assert from 'node:assert/strict'

import type { Case } from '../case.ts'
import { countsAttempts, inboxCase, messages } from './desk.ts'
import type { InboxHarness } from './harness.ts'

const HOUR_MS = 3_600_000
const consumer = 'orders.billing'

/** How long rows stay, and how starts are counted. */
export const keepingCases: readonly Case<InboxHarness>[] = [
  inboxCase('prunes rows that are old enough, and only those', [], async (desk) => {
    const store = await desk.store()
    await desk.run(store, messages(['m1', 'm2', 'm3']))
    assert.equal(await store.prune(HOUR_MS, 100), 0)
    assert.deepEqual(await desk.run(store, messages(['m1'])), ['duplicate'])
    let pruned = 0
    await desk.eventually(
      () => `${pruned} of 3 rows pruned`,
      async () => (pruned += await store.prune(1, 100)) === 3,
    )
    assert.deepEqual(await desk.run(store, messages(['m1'])), ['committed'])
  }),

  inboxCase('prunes at most as many rows as asked', [], async (desk) => {
    const store = await desk.store()
    await desk.run(store, messages(Array.from({ length: 10 }, (_, n) => `m${n}`)))
    const writtenAt = desk.clock.now()
    await desk.eventually(
      () => 'the clock stands still',
      () => desk.clock.now() > writtenAt + 50,
    )
    assert.equal(await store.prune(10, 4), 4)
    assert.equal(await store.prune(10, 4), 4)
    assert.equal(await store.prune(10, 4), 2)
    assert.equal(await store.prune(10, 4), 0)
  }),

  inboxCase('does not prune what is to be kept', [], async (desk) => {
    const store = await desk.store()
    await desk.run(store, messages(['m1', 'm2', 'm3']))
    await desk.run(store, messages(['m2'], 'orders.mail'))
    await store.keep(consumer, ['m2'])
    let pruned = 0
    await desk.eventually(
      () => `${pruned} of 3 rows pruned`,
      async () => (pruned += await store.prune(1, 100)) === 3,
    )
    assert.deepEqual(await desk.run(store, messages(['m2'])), ['duplicate'])
    assert.deepEqual(await desk.run(store, messages(['m1'])), ['committed'])
    assert.deepEqual(await desk.run(store, messages(['m2'], 'orders.mail')), ['committed'])
  }),

  inboxCase('takes what is to be kept for handled, also what never was', [], async (desk) => {
    const [store, other] = [await desk.store(), await desk.store()]
    const failing = async (): Promise<readonly ['failed']> => ['failed']
    assert.deepEqual(await desk.runWith(store, messages(['m1']), 'each', failing), ['failed'])
    await store.keep(consumer, ['m1', 'm2'])
    await store.keep(consumer, ['m1'])
    for (const mode of ['each', 'batch'] as const) {
      const late = messages(['m1', 'm2', `m3-${mode}`])
      const results = ['duplicate', 'duplicate', 'committed'] as const
      assert.deepEqual(await desk.run(other, late, mode), results)
    }
    assert.deepEqual(await desk.run(other, messages(['m1'], 'orders.mail')), ['committed'])
    assert.deepEqual(await desk.effects(), ['m1', 'm3-batch', 'm3-each'])
    let pruned = 0
    await desk.eventually(
      () => `${pruned} of 3 rows pruned`,
      async () => (pruned += await store.prune(1, 100)) === 3,
    )
    assert.deepEqual(await desk.run(store, messages(['m1', 'm2'])), ['duplicate', 'duplicate'])
  }),

  inboxCase('counts starts from 1, also over stores', [countsAttempts], async (desk) => {
    const [one, other] = [await desk.store(), await desk.store()]
    assert.equal(await one.attempts?.started(consumer, 'm1'), 1)
    assert.equal(await other.attempts?.started(consumer, 'm1'), 2)
    assert.equal(await one.attempts?.started(consumer, 'm1'), 3)
    assert.equal(await one.attempts?.started(consumer, 'm2'), 1)
    assert.equal(await one.attempts?.started('orders.mail', 'm1'), 1)
  }),

  inboxCase('forgets the starts of a finished message', [countsAttempts], async (desk) => {
    const store = await desk.store()
    await store.attempts?.started(consumer, 'm1')
    await store.attempts?.started(consumer, 'm2')
    await store.attempts?.finished(consumer, 'm1')
    await store.attempts?.finished(consumer, 'unknown')
    assert.equal(await store.attempts?.started(consumer, 'm1'), 1)
    assert.equal(await store.attempts?.started(consumer, 'm2'), 2)
  }),

  inboxCase('keeps the count when every store is closed', [countsAttempts], async (desk) => {
    const store = await desk.store()
    await store.attempts?.started(consumer, 'm1')
    await store.close()
    assert.equal(await (await desk.store()).attempts?.started(consumer, 'm1'), 2)
  }),

  inboxCase('counts every one of many starts at once', [countsAttempts], async (desk) => {
    const stores = await Promise.all([desk.store(), desk.store()])
    const counts = await Promise.all(
      Array.from({ length: 20 }, (_, n) => stores[n % 2]!.attempts!.started(consumer, 'm1')),
    )
    assert.deepEqual(
      counts.toSorted((a, b) => a - b),
      Array.from({ length: 20 }, (_, n) => n + 1),
    )
  }),
]
