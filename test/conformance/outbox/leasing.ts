import assert from 'node:assert/strict'

import type { Lease } from '../../../src/contract/store.ts'
import type { Case } from '../case.ts'
import { ALL, NO_SKIP, outboxCase, refs, rows } from './desk.ts'
import type { OutboxHarness } from './harness.ts'

/** Long enough to act within it, short enough to wait for its end. */
const SHORT_TTL_MS = 250

function buckets(leases: readonly Lease[]): readonly number[] {
  return leases.map(({ bucket }) => bucket).toSorted((a, b) => a - b)
}

function epochs(leases: readonly Lease[]): Map<number, number> {
  return new Map(leases.map(({ bucket, epoch }) => [bucket, epoch]))
}

/** Who may move which rows: leases, epochs and what they fence. */
export const leasingCases: readonly Case<OutboxHarness>[] = [
  outboxCase('leases every bucket to a relay that is alone', [], async (desk) => {
    const store = await desk.store()
    const grant = await store.lease('one', ALL, 60_000)
    assert.equal(grant.leases.length, grant.buckets)
    assert.equal(new Set(buckets(grant.leases)).size, grant.buckets)
    assert.equal(grant.contenders, 1)
    assert.ok(grant.leases.every(({ owner }) => owner === 'one'))
  }),

  outboxCase('leases no more than asked for', [], async (desk) => {
    const store = await desk.store()
    const grant = await store.lease('one', 3, 60_000)
    assert.equal(grant.leases.length, 3)
    assert.ok(grant.buckets > 3)
    assert.equal((await store.lease('one', 5, 60_000)).leases.length, 5)
  }),

  outboxCase('renews with the same epochs', [], async (desk) => {
    const store = await desk.store()
    const first = await desk.leases(store)
    const second = await desk.leases(store)
    assert.deepEqual(epochs(second), epochs(first))
  }),

  outboxCase('leases a held bucket to nobody else, and counts who asks', [], async (desk) => {
    const one = await desk.store()
    const other = await desk.store()
    await desk.leases(one, 'one')
    const grant = await other.lease('other', ALL, 60_000)
    assert.deepEqual(grant.leases, [])
    assert.equal(grant.contenders, 2)
    assert.equal((await one.lease('one', ALL, 60_000)).contenders, 2)
  }),

  outboxCase(
    'shares the buckets fairly once the holder gives its surplus back',
    [],
    async (desk) => {
      const [one, other] = [await desk.store(), await desk.store()]
      const all = await desk.leases(one, 'one')
      await other.lease('other', ALL, 60_000)
      const { contenders, buckets: count } = await one.lease('one', ALL, 60_000)
      const share = Math.ceil(count / contenders)
      await one.release(all.slice(share))
      const kept = await one.lease('one', share, 60_000)
      const taken = await other.lease('other', share, 60_000)
      const both = buckets([...kept.leases, ...taken.leases])
      assert.equal(both.length, count)
      assert.equal(new Set(both).size, count, 'a bucket has two owners')
    },
  ),

  outboxCase('forgets a relay that stopped asking', [], async (desk) => {
    const store = await desk.store()
    await store.lease('gone', 1, SHORT_TTL_MS)
    await desk.eventually(
      () => 'the silent relay still counts',
      async () => (await store.lease('one', ALL, 60_000)).contenders === 1,
    )
    const { leases, buckets: count } = await store.lease('one', ALL, 60_000)
    assert.equal(leases.length, count)
  }),

  outboxCase(
    'gives an expired bucket to the next who asks, with a higher epoch',
    [],
    async (desk) => {
      const [one, other] = [await desk.store(), await desk.store()]
      const before = await desk.leases(one, 'one', SHORT_TTL_MS)
      let after: readonly Lease[] = []
      await desk.eventually(
        () => `${after.length} of ${before.length} buckets taken over`,
        async () => (after = await desk.leases(other, 'other')).length === before.length,
      )
      const old = epochs(before)
      for (const { bucket, epoch } of after) assert.ok(epoch > old.get(bucket)!, `bucket ${bucket}`)
    },
  ),

  outboxCase('gives a released bucket to the next at once', [], async (desk) => {
    const [one, other] = [await desk.store(), await desk.store()]
    const before = await desk.leases(one, 'one')
    await one.release(before)
    const after = await desk.leases(other, 'other')
    assert.equal(after.length, before.length)
    const old = epochs(before)
    for (const { bucket, epoch } of after) assert.ok(epoch > old.get(bucket)!, `bucket ${bucket}`)
  }),

  outboxCase('never leases one bucket to two relays that ask at once', [], async (desk) => {
    const stores = await Promise.all(Array.from({ length: 4 }, () => desk.store()))
    const grants = await Promise.all(
      stores.map((store, n) => store.lease(`relay-${n}`, ALL, 60_000)),
    )
    const all = grants.flatMap(({ leases }) => leases)
    assert.equal(all.length, grants[0]!.buckets)
    assert.equal(new Set(buckets(all)).size, all.length)
  }),

  outboxCase('reads rows of leased buckets only, one key in one bucket', [], async (desk) => {
    const store = await desk.store()
    for (let key = 0; key < 30; key++) await desk.append(store, rows('t', `k${key}`, 2))
    const leases = await desk.leases(store)
    const all = await store.read(leases, ALL, NO_SKIP)
    const bucketOf = new Map<string, number>()
    for (const { bucket, envelope } of all) {
      const known = bucketOf.get(envelope.orderKey!) ?? bucket
      assert.equal(bucket, known, `key ${envelope.orderKey} is in two buckets`)
      bucketOf.set(envelope.orderKey!, bucket)
    }
    const half = leases.filter(({ bucket }) => bucket % 2 === 0)
    const expected = all.filter(({ bucket }) => bucket % 2 === 0)
    assert.deepEqual(refs(await store.read(half, ALL, NO_SKIP)), refs(expected))
    assert.deepEqual(await store.read([], ALL, NO_SKIP), [])
  }),

  outboxCase('completes rows, once', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', 'k', 4))
    const leases = await desk.leases(store)
    const read = await store.read(leases, 3, NO_SKIP)
    assert.equal(read.length, 3)
    assert.equal(await store.complete(leases, refs(read)), 3)
    assert.equal(await store.complete(leases, refs(read)), 0)
    assert.deepEqual(await desk.bodies(store, leases), ['k:3'])
  }),

  outboxCase('completes nothing for a relay whose bucket was taken over', [], async (desk) => {
    const [one, other] = [await desk.store(), await desk.store()]
    await desk.append(one, rows('t', 'k', 3))
    const stale = await desk.leases(one, 'one', SHORT_TTL_MS)
    const read = await one.read(stale, ALL, NO_SKIP)
    let fresh: readonly Lease[] = []
    await desk.eventually(
      () => 'the buckets did not expire',
      async () => (fresh = await desk.leases(other, 'other')).length === stale.length,
    )
    assert.equal(await one.complete(stale, refs(read)), 0)
    assert.equal(await one.park(stale, refs(read), 'late'), 0)
    assert.deepEqual(await desk.bodies(other, fresh), ['k:0', 'k:1', 'k:2'])
    assert.equal(await other.complete(fresh, refs(read)), 3)
  }),

  outboxCase('completes nothing for a released or forged lease', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', 'k', 1))
    const leases = await desk.leases(store)
    const read = refs(await store.read(leases, ALL, NO_SKIP))
    assert.equal(await store.complete([], read), 0)
    const forged = leases.map((lease) => ({ ...lease, epoch: lease.epoch - 1 }))
    assert.equal(await store.complete(forged, read), 0)
    const stolen = leases.map((lease) => ({ ...lease, owner: 'thief' }))
    assert.equal(await store.complete(stolen, read), 0)
    await store.release(leases)
    assert.equal(await store.complete(leases, read), 0)
    assert.deepEqual(await desk.bodies(store), ['k:0'])
  }),

  outboxCase('completes by id and message id, and never uses an id again', [], async (desk) => {
    const store = await desk.store()
    await desk.append(store, rows('t', 'k', 2))
    const leases = await desk.leases(store)
    const old = refs(await store.read(leases, ALL, NO_SKIP))
    const wrong = old.map((ref) => ({ ...ref, messageId: `${ref.messageId}-other` }))
    assert.equal(await store.complete(leases, wrong), 0)
    assert.equal(await store.complete(leases, old), 2)
    await desk.append(store, rows('t', 'k', 2))
    const fresh = await store.read(leases, ALL, NO_SKIP)
    assert.ok(
      fresh.every(({ id }) => old.every((ref) => ref.id < id)),
      'an id was used again',
    )
    assert.equal(await store.complete(leases, old), 0)
    assert.equal((await store.stats()).pending, 2)
  }),
]
