import assert from 'node:assert/strict'

import { isHoldfastError } from '../../../src/contract/errors.ts'
import { bigBody, bodies, essence, hostileHeaders } from '../broker/contract/carrying.ts'
import { text } from '../broker/envelopes.ts'
import type { Case } from '../case.ts'
import {
  concurrentTransactions,
  NO_SKIP,
  ALL,
  nudgesOnCommit,
  outboxCase,
  refs,
  row,
  rows,
} from './desk.ts'
import type { OutboxHarness } from './harness.ts'

/** Rows enter with the caller's transaction, in order, and stay until they are completed. */
export const appendingCases: readonly Case<OutboxHarness>[] = [
  outboxCase('keeps the rows of a transaction that commits', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', 'k', 3))
    assert.deepEqual(await desk.bodies(store), ['k:0', 'k:1', 'k:2'])
  }),

  outboxCase('keeps nothing of a transaction that rolls back', [], async (desk) => {
    const store = await desk.store()
    const failure = new Error('the business change failed')
    const failing = desk.database.transaction(async (tx) => {
      await store.append(tx, rows('t', 'k', 3))
      throw failure
    })
    await assert.rejects(desk.within('the rollback', failing), failure)
    assert.deepEqual(await desk.bodies(store), [])
    assert.equal((await store.stats()).pending, 0)
  }),

  outboxCase(
    'shows no row before its transaction commits',
    [concurrentTransactions],
    async (desk) => {
      const store = await desk.store()
      const open = await desk.database.begin!()
      await store.append(open.tx, rows('t', 'k', 1))
      assert.deepEqual(await desk.bodies(store), [])
      await open.commit()
      assert.deepEqual(await desk.bodies(store), ['k:0'])
    },
  ),

  outboxCase(
    'does not skip a row that commits after rows with later ids',
    [concurrentTransactions],
    async (desk) => {
      const store = await desk.store()
      const leases = await desk.leases(store)
      const early = await desk.database.begin!()
      await store.append(early.tx, rows('t', 'early', 1))
      await desk.append(store, rows('t', 'late', 1))
      const first = await store.read(leases, ALL, NO_SKIP)
      assert.deepEqual(
        first.map(({ envelope }) => text(envelope)),
        ['late:0'],
      )
      assert.equal(await store.complete(leases, refs(first)), 1)
      await early.commit()
      const second = await store.read(leases, ALL, NO_SKIP)
      assert.deepEqual(
        second.map(({ envelope }) => text(envelope)),
        ['early:0'],
      )
      assert.ok(second[0]!.id < first[0]!.id, 'its id is the lower one')
    },
  ),

  outboxCase('reads rows in the order they were appended', [], async (desk) => {
    const store = await desk.store()
    const keys = ['a', 'b', null, 'c']
    for (let n = 0; n < 12; n++) {
      const key = keys[n % keys.length] ?? null
      await desk.append(store, [
        row('t', { key, body: `${2 * n}` }),
        row('t', { key, body: `${2 * n + 1}` }),
      ])
    }
    const read = await store.read(await desk.leases(store), ALL, NO_SKIP)
    assert.deepEqual(
      read.map(({ envelope }) => text(envelope)),
      Array.from({ length: 24 }, (_, n) => `${n}`),
    )
    const ids = read.map(({ id }) => id)
    assert.deepEqual(
      ids,
      [...new Set(ids)].toSorted((a, b) => a - b),
    )
  }),

  outboxCase('gives back what was appended, bit for bit', [], async (desk) => {
    const store = await desk.store()
    const contents = [
      row('t', { headers: hostileHeaders, key: 'clé' }),
      row('t', { key: '' }),
      row('t', { body: bigBody() }),
      row('t', { to: { kind: 'group', topic: 't', group: 'g', delayMs: 0 } }),
      ...bodies.map(([, body]) => row('t', { body, key: 'k' })),
    ]
    await desk.append(store, contents)
    const read = await store.read(await desk.leases(store), ALL, NO_SKIP)
    assert.equal(read.length, contents.length)
    for (const [index, { envelope, messageId, keyHash }] of read.entries()) {
      const { envelope: sent, keyHash: hashed } = contents[index]!
      assert.deepEqual(essence(envelope), essence(sent))
      assert.deepEqual(envelope.to, sent.to)
      assert.equal(envelope.orderKey, sent.orderKey)
      assert.equal(messageId, sent.id)
      assert.equal(keyHash, hashed)
    }
  }),

  outboxCase('appends thousands of rows in one transaction', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', null, 5_000))
    assert.equal((await store.stats()).pending, 5_000)
    const last = (await desk.bodies(store)).at(-1)
    assert.equal(last, '-:4999')
  }),

  outboxCase('appends alone what is there when it resolves', [], async (desk) => {
    const store = await desk.store()
    await desk.within('appendAlone()', store.appendAlone(rows('t', 'k', 2)))
    assert.deepEqual(await desk.bodies(await desk.store()), ['k:0', 'k:1'])
  }),

  outboxCase('keeps its rows when every store is closed and opened again', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', 'k', 3))
    await store.close()
    await store.close()
    assert.deepEqual(await desk.bodies(await desk.store()), ['k:0', 'k:1', 'k:2'])
  }),

  outboxCase('opens from several stores at once', [], async (desk) => {
    const stores = await Promise.all([desk.store(), desk.store(), desk.store()])
    await Promise.all(stores.map((store, n) => desk.append(store, rows('t', `k${n}`, 2))))
    const read = await desk.bodies(stores[0])
    assert.deepEqual(read.toSorted(), ['k0:0', 'k0:1', 'k1:0', 'k1:1', 'k2:0', 'k2:1'])
  }),

  outboxCase('refuses a handle that is no open transaction', [], async (desk) => {
    const store = await desk.store()
    let finished: unknown
    await desk.database.transaction(async (tx) => {
      finished = tx
    })
    const given = [['a finished transaction', finished], ...(desk.database.notTransactions ?? [])]
    for (const [what, handle] of given as [string, unknown][]) {
      await assert.rejects(
        async () => store.append(handle, rows('t', 'k', 1)),
        (error) => isHoldfastError(error) && error.code === 'not-a-transaction',
        `${what} was taken for a transaction`,
      )
    }
    assert.deepEqual(await desk.bodies(store), [])
  }),

  outboxCase('tells that rows were appended, until told to stop', [], async (desk) => {
    const store = await desk.store()
    let heard = 0
    const stop = store.onAppended(() => heard++)
    await store.appendAlone(rows('t', 'k', 1))
    await desk.eventually(
      () => 'onAppended() stayed silent',
      () => heard > 0,
    )
    stop()
    stop()
    await desk.still(() => heard)
    const before = heard
    await store.appendAlone(rows('t', 'k', 1))
    await desk.quiet('a stopped listener was called', () => heard)
    assert.equal(heard, before)
  }),

  outboxCase('tells of a commit when the rows can be seen', [nudgesOnCommit], async (desk) => {
    const store = await desk.store()
    const pendingWhenHeard: number[] = []
    store.onAppended(() => {
      void store.stats().then(({ pending }) => pendingWhenHeard.push(pending))
    })
    await desk.append(store, rows('t', 'k', 2))
    await desk.eventually(
      () => `rows seen when told: ${pendingWhenHeard.join(', ')}`,
      () => pendingWhenHeard.at(-1) === 2,
    )
  }),

  outboxCase('counts what waits, what is scheduled and what is dead', [], async (desk) => {
    const store = await desk.store()
    assert.deepEqual(await store.stats(), {
      pending: 0,
      scheduled: 0,
      dead: 0,
      oldestAgeMs: null,
    })
    const deliverAtMs = desk.clock.wallMs() + 3_600_000
    await desk.append(store, [...rows('t', 'k', 3), row('t', { deliverAtMs })])
    await desk.eventually(
      () => 'oldestAgeMs does not grow',
      async () => ((await store.stats()).oldestAgeMs ?? 0) > 5,
    )
    const { pending, scheduled, dead } = await store.stats()
    assert.deepEqual({ pending, scheduled, dead }, { pending: 3, scheduled: 1, dead: 0 })
  }),
]
