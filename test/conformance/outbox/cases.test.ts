import { describe, expect, it } from 'vitest'

import {
  memoryDatabase,
  memoryOutbox,
  type MemoryTransaction,
} from '../../../adapters/memory/index.ts'
import type {
  Lease,
  OutboxRow,
  OutboxStore,
  RowRef,
  StoredRow,
} from '../../../src/contract/store.ts'
import type { Case } from '../case.ts'
import { overlaid } from '../overlay.ts'
import { outboxCases } from './cases.ts'
import type { OutboxHarness } from './harness.ts'

type Store = OutboxStore<MemoryTransaction>
type Break = (store: Store) => Partial<Store>

/** A harness around a memory outbox; impatient, since what is missing has to time out. */
function harness(broken: Break): OutboxHarness<MemoryTransaction> {
  return {
    name: 'broken',
    patience: 0.1,
    concurrentTransactions: true,
    nudgesOnCommit: true,
    make: async () => {
      const database = memoryDatabase()
      return {
        store: () => {
          const store = memoryOutbox({ database })
          return overlaid<Store>(store, broken(store))
        },
        transaction: (work) => database.transaction(work),
        begin: async () => {
          const tx = database.begin()
          return { tx, commit: () => tx.commit(), rollback: () => tx.rollback() }
        },
        close: () => database.close(),
      }
    },
  }
}

/** Rows are changed before they are appended. */
function rows(change: (row: OutboxRow) => OutboxRow): Break {
  return (store) => ({ append: (tx, given) => store.append(tx, given.map(change)) })
}

/** What is read is changed. */
function reads(change: (read: readonly StoredRow[], store: Store) => readonly StoredRow[]): Break {
  return (store) => ({
    read: async (leases, limit, skip) => change(await store.read(leases, limit, skip), store),
  })
}

/** Leases under which anything is allowed: what a store without fencing does. */
async function mine(store: Store, leases: readonly Lease[]): Promise<readonly Lease[]> {
  for (const owner of ['one', 'other', 'relay']) {
    const grant = await store.lease(owner, 1_000, 60_000)
    if (grant.leases.length > 0) return grant.leases
  }
  return leases
}

const broken: readonly (readonly [what: string, noticedBy: string, how: Break])[] = [
  [
    'appends outside the transaction',
    'keeps nothing of a transaction that rolls back',
    (store) => ({ append: (_, given) => store.appendAlone(given) }),
  ],
  [
    'shows rows before the commit',
    'shows no row before its transaction commits',
    (store) => ({ append: (_, given) => store.appendAlone(given) }),
  ],
  [
    'reads with a cursor',
    'does not skip a row that commits after rows with later ids',
    () => {
      let last = 0
      return reads((read) => {
        const fresh = read.filter(({ id }) => id > last)
        last = Math.max(last, ...fresh.map(({ id }) => id))
        return fresh
      })({} as Store)
    },
  ],
  [
    'reads in another order',
    'reads rows in the order they were appended',
    reads((read) => read.toReversed()),
  ],
  [
    'drops headers',
    'gives back what was appended, bit for bit',
    rows((row) => ({ ...row, envelope: { ...row.envelope, headers: [] } })),
  ],
  [
    'takes anything for a transaction',
    'refuses a handle that is no open transaction',
    (store) => ({ append: (tx, given) => store.append(tx, given).catch(() => undefined) }),
  ],
  [
    'is silent about appended rows',
    'tells that rows were appended',
    () => ({ onAppended: () => () => undefined }),
  ],
  [
    'counts scheduled rows as pending',
    'counts what waits',
    (store) => ({
      stats: async () => {
        const { scheduled, pending, ...rest } = await store.stats()
        return { ...rest, scheduled: 0, pending: pending + scheduled }
      },
    }),
  ],
  [
    'leases all buckets whatever was asked',
    'leases no more than asked for',
    (store) => ({ lease: (owner, _, ttlMs) => store.lease(owner, 1_000, ttlMs) }),
  ],
  [
    'raises the epoch at every renewal',
    'renews with the same epochs',
    (store) => {
      let round = 0
      return {
        lease: async (owner, want, ttlMs) => {
          const grant = await store.lease(owner, want, ttlMs)
          round++
          const leases = grant.leases.map((lease) => ({ ...lease, epoch: lease.epoch + round }))
          return { ...grant, leases }
        },
      }
    },
  ],
  [
    'does not see other relays',
    'leases a held bucket to nobody else',
    (store) => ({
      lease: async (...asked) => ({ ...(await store.lease(...asked)), contenders: 1 }),
    }),
  ],
  [
    'gives one bucket to two relays',
    'never leases one bucket to two relays',
    (store) => ({ lease: (_, want, ttlMs) => store.lease('everybody', want, ttlMs) }),
  ],
  [
    'never lets a lease expire',
    'gives an expired bucket to the next',
    (store) => ({ lease: (owner, want) => store.lease(owner, want, 60_000) }),
  ],
  [
    'keeps what was released',
    'gives a released bucket to the next',
    () => ({ release: () => Promise.resolve() }),
  ],
  [
    'completes without looking at the lease',
    'completes nothing for a relay whose bucket was taken over',
    (store) => ({
      complete: async (leases, refs) => store.complete(await mine(store, leases), refs),
    }),
  ],
  [
    'parks without looking at the lease',
    'completes nothing for a relay whose bucket was taken over',
    (store) => ({
      park: async (leases, refs, why) => store.park(await mine(store, leases), refs, why),
    }),
  ],
  [
    'completes by id alone',
    'completes by id and message id',
    (store) => ({
      complete: async (leases, refs) => {
        const read = await store.read(leases, 1_000, { ids: [], keyHashes: [], topics: [] })
        const ids = refs.map(({ id }) => id)
        return store.complete(
          leases,
          read.filter(({ id }) => ids.includes(id)),
        )
      },
    }),
  ],
  [
    'ignores rows in flight',
    'leaves out of a read what is in flight',
    (store) => ({
      read: (leases, limit, skip) => store.read(leases, limit, { ...skip, ids: [] }),
    }),
  ],
  [
    'ignores blocked keys',
    'leaves out of a read what belongs to a blocked key',
    (store) => ({
      read: (leases, limit, skip) => store.read(leases, limit, { ...skip, keyHashes: [] }),
    }),
  ],
  [
    'ignores stopped topics',
    'leaves out of a read what belongs to a stopped topic',
    (store) => ({
      read: (leases, limit, skip) => store.read(leases, limit, { ...skip, topics: [] }),
    }),
  ],
  [
    'applies the limit before it skips',
    'reads behind what it leaves out',
    (store) => ({
      read: async (leases, limit, skip) => {
        const read = await store.read(leases, limit, { ...skip, ids: [] })
        return read.filter(({ id }) => !skip.ids.includes(id))
      },
    }),
  ],
  [
    'blocks rows without a key',
    'never blocks a row without a key',
    rows((row) => ({ ...row, keyHash: row.hash })),
  ],
  [
    'deletes what it should park',
    'parks a row',
    (store) => ({ park: (leases, refs: readonly RowRef[]) => store.complete(leases, refs) }),
  ],
  [
    'does not wait until a row is due',
    'does not read a scheduled row before it is due',
    rows((row) => ({ ...row, envelope: { ...row.envelope, deliverAtMs: null } })),
  ],
  [
    'promotes more than asked',
    'promotes what is due, in due order',
    (store) => ({ promote: (leases) => store.promote(leases, 1_000) }),
  ],
  [
    'loses what it appends',
    'relays what commits',
    (store) => ({ append: (tx, given) => store.append(tx, given.slice(1)) }),
  ],
  [
    'deletes a row before it was sent',
    'relays each key in order while the broker refuses',
    (store) => ({
      read: async (leases, limit, skip) => {
        const read = await store.read(leases, limit, skip)
        await store.complete(leases, read.slice(-1))
        return read.slice(0, -1)
      },
    }),
  ],
]

function caseOf(beginning: string): Case<OutboxHarness> {
  const found = outboxCases.filter(({ name }) => name.startsWith(beginning))
  expect(found.map(({ name }) => name)).toHaveLength(1)
  return found[0]!
}

describe('the outbox cases', () => {
  it('have names of their own', () => {
    const names = outboxCases.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
  })

  it.each(broken.map(([what, noticedBy, how]) => ({ what, noticedBy, how })))(
    'notice an outbox that $what',
    async ({ noticedBy, how }) => {
      const one = caseOf(noticedBy)
      await one.run(harness(() => ({})))
      await expect(one.run(harness(how))).rejects.toThrow(/./)
    },
  )
})
