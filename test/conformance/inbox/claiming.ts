import assert from 'node:assert/strict'

import type { Case } from '../case.ts'
import { inboxCase, messages, type Desk } from './desk.ts'
import type { InboxHarness } from './harness.ts'

/** The same sentence in both modes. */
function inBothModes(
  name: string,
  act: (desk: Desk<unknown>, mode: 'each' | 'batch') => Promise<void>,
): readonly Case<InboxHarness>[] {
  return (['each', 'batch'] as const).map((mode) =>
    inboxCase(`${name} (mode '${mode}')`, [], (desk) => act(desk, mode)),
  )
}

/** One transaction: the row first, the effect with it, both or neither. */
export const claimingCases: readonly Case<InboxHarness>[] = [
  ...inBothModes('commits the effect and remembers the message', async (desk, mode) => {
    const store = await desk.store()
    assert.deepEqual(await desk.run(store, messages(['m1']), mode), ['committed'])
    assert.deepEqual(await desk.effects(), ['m1'])
    assert.deepEqual(await desk.run(store, messages(['m1']), mode), ['duplicate'])
    assert.deepEqual(await desk.effects(), ['m1'])
  }),

  ...inBothModes('hands over only what is new', async (desk, mode) => {
    const store = await desk.store()
    await desk.run(store, messages(['m1', 'm3']))
    const handed: number[] = []
    const given = messages(['m0', 'm1', 'm2', 'm3'])
    const results = await desk.runWith(store, given, mode, async (_, fresh) => {
      handed.push(...fresh)
      return fresh.map(() => 'done')
    })
    assert.deepEqual(handed, [0, 2])
    assert.deepEqual(results, ['committed', 'duplicate', 'committed', 'duplicate'])
  }),

  ...inBothModes('does not start work for duplicates alone', async (desk, mode) => {
    const store = await desk.store()
    await desk.run(store, messages(['m1', 'm2']))
    const results = await desk.runWith(store, messages(['m2', 'm1']), mode, () =>
      Promise.reject(new Error('work was called for duplicates')),
    )
    assert.deepEqual(results, ['duplicate', 'duplicate'])
  }),

  ...inBothModes('takes an id that comes twice in one call once', async (desk, mode) => {
    const store = await desk.store()
    const results = await desk.run(store, messages(['m1', 'm1', 'm2']), mode)
    assert.deepEqual(results, ['committed', 'duplicate', 'committed'])
    assert.deepEqual(await desk.effects(), ['m1', 'm2'])
  }),

  ...inBothModes(
    'leaves nothing of a message whose work failed, and tries it again',
    async (desk, mode) => {
      const store = await desk.store()
      const given = messages(['m0', 'm1', 'm2'])
      const results = await desk.runWith(store, given, mode, async (tx, fresh) => {
        for (const index of fresh) {
          // In a batch the failed one must have had no effect; on its own, its effect is undone.
          if (index !== 1 || mode === 'each') await desk.database.effect(tx, `m${index}`)
        }
        return fresh.map((index) => (index === 1 ? 'failed' : 'done'))
      })
      assert.deepEqual(results, ['committed', 'failed', 'committed'])
      assert.deepEqual(await desk.effects(), ['m0', 'm2'])
      const again = await desk.run(store, given, mode)
      assert.deepEqual(again, ['duplicate', 'committed', 'duplicate'])
      assert.deepEqual(await desk.effects(), ['m0', 'm1', 'm2'])
    },
  ),

  ...inBothModes(
    'rolls everything back when the work rejects, and says why',
    async (desk, mode) => {
      const store = await desk.store()
      const given = messages(['m0', 'm1'])
      const failure = new Error('the handler failed')
      const running = desk.runWith(store, given, mode, async (tx, fresh) => {
        for (const index of fresh) await desk.database.effect(tx, `m${index}`)
        if (fresh.includes(1)) throw failure
        return fresh.map(() => 'done')
      })
      await assert.rejects(running, (error) => error === failure)
      assert.deepEqual(await desk.effects(), [])
      assert.deepEqual(await desk.run(store, given, mode), ['committed', 'committed'])
      assert.deepEqual(await desk.effects(), ['m0', 'm1'])
    },
  ),

  ...inBothModes('keeps ids of different consumers apart', async (desk, mode) => {
    const store = await desk.store()
    assert.deepEqual(await desk.run(store, messages(['m1'], 'orders.billing'), mode), ['committed'])
    assert.deepEqual(await desk.run(store, messages(['m1'], 'orders.mail'), mode), ['committed'])
    assert.deepEqual(await desk.run(store, messages(['m1'], 'returns.billing'), mode), [
      'committed',
    ])
    assert.deepEqual(await desk.effects(), ['m1', 'm1', 'm1'])
  }),

  inboxCase("hands over one message at a time with mode 'each', in order", [], async (desk) => {
    const store = await desk.store()
    const calls: (readonly number[])[] = []
    let running = 0
    await desk.runWith(store, messages(['a', 'b', 'c']), 'each', async (_, fresh) => {
      assert.equal(++running, 1, 'work was called while it was running')
      calls.push(fresh)
      await new Promise<void>((resolve) => desk.clock.defer(resolve))
      running--
      return ['done']
    })
    assert.deepEqual(calls, [[0], [1], [2]])
  }),

  inboxCase("hands over all messages at once with mode 'batch'", [], async (desk) => {
    const store = await desk.store()
    const calls: (readonly number[])[] = []
    await desk.runWith(store, messages(['a', 'b', 'c']), 'batch', async (_, fresh) => {
      calls.push(fresh)
      return fresh.map(() => 'done')
    })
    assert.deepEqual(calls, [[0, 1, 2]])
  }),

  inboxCase('takes hundreds of messages in one transaction', [], async (desk) => {
    const store = await desk.store()
    const given = messages(Array.from({ length: 600 }, (_, n) => `m${n}`))
    const results = await desk.run(store, given, 'batch')
    assert.ok(results.every((result) => result === 'committed'))
    assert.equal((await desk.effects()).length, 600)
  }),

  inboxCase('remembers when every store is closed and opened again', [], async (desk) => {
    const store = await desk.store()
    await desk.run(store, messages(['m1']))
    await store.close()
    await store.close()
    assert.deepEqual(await desk.run(await desk.store(), messages(['m1'])), ['duplicate'])
  }),

  inboxCase('tells ids apart that differ in case, spaces or length only', [], async (desk) => {
    const store = await desk.store()
    const ids = ['id', 'ID', 'id ', ' id', 'iđ', 'x'.repeat(200), `${'x'.repeat(199)}y`]
    const results = await desk.run(store, messages(ids))
    assert.deepEqual(
      results,
      ids.map(() => 'committed'),
    )
  }),
]
