import assert from 'node:assert/strict'

import type { Skip } from '../../../src/contract/store.ts'
import { text } from '../broker/envelopes.ts'
import type { Case } from '../case.ts'
import { ALL, NO_SKIP, outboxCase, refs, row, rows, type Desk } from './desk.ts'
import type { OutboxHarness } from './harness.ts'

async function without(
  desk: Desk<unknown>,
  skip: (desk: Written) => Partial<Skip>,
): Promise<readonly string[]> {
  const written = await write(desk)
  const read = await written.store.read(written.leases, ALL, { ...NO_SKIP, ...skip(written) })
  return read.map(({ envelope }) => text(envelope))
}

type Written = Awaited<ReturnType<typeof write>>

/** Six rows: two of key a, two of key b in another topic, two without a key. */
async function write(desk: Desk<unknown>) {
  const store = await desk.store()
  await desk.append(store, [...rows('t', 'a', 2), ...rows('u', 'b', 2), ...rows('t', null, 2)])
  const leases = await desk.leases(store)
  const read = await store.read(leases, ALL, NO_SKIP)
  return { store, leases, read }
}

/** What a relay does with rows beside completing them: skip, park, promote. */
export const movingCases: readonly Case<OutboxHarness>[] = [
  outboxCase('leaves out of a read what is in flight', [], async (desk) => {
    const seen = await without(desk, ({ read }) => ({ ids: [read[0]!.id, read[3]!.id] }))
    assert.deepEqual(seen, ['a:1', 'b:0', '-:0', '-:1'])
  }),

  outboxCase('leaves out of a read what belongs to a blocked key', [], async (desk) => {
    const seen = await without(desk, ({ read }) => ({ keyHashes: [read[0]!.keyHash] }))
    assert.deepEqual(seen, ['b:0', 'b:1', '-:0', '-:1'])
  }),

  outboxCase('leaves out of a read what belongs to a stopped topic', [], async (desk) => {
    assert.deepEqual(await without(desk, () => ({ topics: ['t'] })), ['b:0', 'b:1'])
  }),

  outboxCase('reads behind what it leaves out, up to the limit', [], async (desk) => {
    const { store, leases, read } = await write(desk)
    const ids = read.slice(0, 3).map(({ id }) => id)
    const seen = await store.read(leases, 2, { ...NO_SKIP, ids })
    assert.deepEqual(
      seen.map(({ envelope }) => text(envelope)),
      ['b:1', '-:0'],
    )
  }),

  outboxCase('never blocks a row without a key by the hash of one', [], async (desk) => {
    const store = await desk.store()
    const plain = row('t', { body: 'no key' })
    const keyed = row('t', { key: 'k', body: 'key' })
    // Two hashes that happen to be equal: only the keyed row belongs to the blocked key.
    await desk.append(store, [plain, { ...keyed, hash: plain.hash, keyHash: plain.hash }])
    const leases = await desk.leases(store)
    const seen = await store.read(leases, ALL, { ...NO_SKIP, keyHashes: [plain.hash] })
    assert.deepEqual(
      seen.map(({ envelope }) => text(envelope)),
      ['no key'],
    )
  }),

  outboxCase(
    'parks a row: counted as dead, not read again, the rest untouched',
    [],
    async (desk) => {
      const { store, leases, read } = await write(desk)
      assert.equal(await store.park(leases, refs(read.slice(0, 1)), 'too-large'), 1)
      assert.equal(await store.park(leases, refs(read.slice(0, 1)), 'too-large'), 0)
      assert.deepEqual(await desk.bodies(store, leases), ['a:1', 'b:0', 'b:1', '-:0', '-:1'])
      const { pending, dead } = await store.stats()
      assert.deepEqual({ pending, dead }, { pending: 5, dead: 1 })
      assert.equal(await store.complete(leases, refs(read.slice(0, 1))), 0)
      assert.equal((await store.stats()).dead, 1, 'completing a parked row removed it')
    },
  ),

  outboxCase('does not read a scheduled row before it is due', [], async (desk) => {
    const store = await desk.store()
    const deliverAtMs = desk.clock.wallMs() + 3_600_000
    await desk.append(store, [row('t', { body: 'later', deliverAtMs }), row('t', { body: 'now' })])
    const leases = await desk.leases(store)
    const { moved, nextDueMs } = await store.promote(leases, ALL)
    assert.equal(moved, 0)
    assert.equal(typeof nextDueMs, 'number')
    assert.deepEqual(await desk.bodies(store, leases), ['now'])
  }),

  outboxCase('promotes what is due, in due order, at most as many as asked', [], async (desk) => {
    const store = await desk.store()
    const now = desk.clock.wallMs()
    const due = [30, 10, 20].map((ms) => row('t', { body: `+${ms}`, deliverAtMs: now + ms }))
    await desk.append(store, due)
    const leases = await desk.leases(store)
    await desk.eventually(
      () => 'the time did not pass',
      () => Promise.resolve(desk.clock.wallMs() >= now + 30),
    )
    for (const bodies of [['+10'], ['+10', '+20'], ['+10', '+20', '+30']]) {
      assert.equal((await store.promote(leases, 1)).moved, 1)
      assert.deepEqual(await desk.bodies(store, leases), bodies)
    }
    assert.deepEqual(await store.promote(leases, ALL), { moved: 0, nextDueMs: null })
    assert.equal((await store.stats()).scheduled, 0)
  }),

  outboxCase('promotes rows of leased buckets only', [], async (desk) => {
    const store = await desk.store()
    const deliverAtMs = desk.clock.wallMs() - 1_000
    await desk.append(store, [row('t', { key: 'k', body: 'due', deliverAtMs })])
    assert.equal((await store.promote([], ALL)).moved, 0)
    const leases = await desk.leases(store)
    await store.promote(leases, ALL)
    assert.deepEqual(await desk.bodies(store, leases), ['due'])
  }),

  outboxCase('keeps the due time of a promoted row out of its way', [], async (desk) => {
    const store = await desk.store()
    const sent = row('t', { key: 'k', deliverAtMs: desk.clock.wallMs() + 1 })
    await desk.append(store, [sent])
    const leases = await desk.leases(store)
    await desk.eventually(
      () => 'the row was not promoted',
      async () => {
        await store.promote(leases, ALL)
        return (await desk.bodies(store, leases)).length === 1
      },
    )
    const [read] = await store.read(leases, ALL, NO_SKIP)
    assert.equal(read?.messageId, sent.envelope.id)
    assert.equal(await store.complete(leases, refs([read])), 1)
  }),
]
