import { describe, expect, it } from 'vitest'

import {
  memoryDatabase,
  memoryInbox,
  type MemoryInbox,
  type MemoryTransaction,
} from '../../../adapters/memory/index.ts'
import type { InboxStore } from '../../../src/contract/store.ts'
import type { Case } from '../case.ts'
import { overlaid } from '../overlay.ts'
import { inboxCases } from './cases.ts'
import type { InboxHarness } from './harness.ts'

type Store = InboxStore<MemoryTransaction>
type Break = (store: Store) => Partial<Store>

/** A harness around a memory inbox that never waits; impatient, since what is missing has to time out. */
function harness(broken: Break): InboxHarness<MemoryTransaction> {
  return {
    name: 'broken',
    patience: 0.1,
    losesCommits: true,
    make: async () => {
      const database = memoryDatabase({ lockWaitMs: 0 })
      return {
        store: () => {
          const store = memoryInbox({ database })
          return overlaid<Store>(store, broken(store))
        },
        effect: async (tx, text) => void tx.add('effects', text),
        effects: async () => database.rows('effects').map(([, text]) => text as string),
        loseCommit: (_, really) => database.faults.loseCommits(really),
        close: () => database.close(),
      }
    },
  }
}

const broken: readonly (readonly [what: string, noticedBy: string, how: Break])[] = [
  [
    'forgets what it has seen',
    "commits the effect and remembers the message (mode 'each')",
    (store) => {
      let run = 0
      return {
        run: (messages, mode, work) => {
          run++
          const renamed = messages.map((one) => ({ ...one, id: `${run}/${one.id}` }))
          return store.run(renamed, mode, work)
        },
      }
    },
  ],
  [
    'hands over duplicates too',
    "hands over only what is new (mode 'batch')",
    (store) => ({
      run: (messages, mode, work) =>
        store.run(messages, mode, async (tx) => {
          const all = messages.map((_, index) => index)
          return (await work(tx, all)).slice(0, 2)
        }),
    }),
  ],
  [
    'calls a second one in the same call committed',
    "takes an id that comes twice in one call once (mode 'each')",
    (store) => ({
      run: async (messages, mode, work) => {
        const results = await store.run(messages, mode, work)
        return results.map(() => 'committed' as const)
      },
    }),
  ],
  [
    'keeps the row of a failed message',
    "leaves nothing of a message whose work failed, and tries it again (mode 'batch')",
    (store) => ({
      run: (messages, mode, work) =>
        store.run(messages, mode, async (tx, fresh) =>
          (await work(tx, fresh)).map(() => 'done' as const),
        ),
    }),
  ],
  [
    'keeps the effect of a failed message',
    "leaves nothing of a message whose work failed, and tries it again (mode 'each')",
    (store) => ({
      run: (messages, mode, work) =>
        store.run(messages, mode === 'each' ? 'batch' : mode, (tx, fresh) => work(tx, fresh)),
    }),
  ],
  [
    'swallows the error of the work',
    "rolls everything back when the work rejects, and says why (mode 'each')",
    (store) => ({
      run: (messages, mode, work) =>
        store.run(messages, mode, (tx, fresh) =>
          work(tx, fresh).catch(() => fresh.map(() => 'failed' as const)),
        ),
    }),
  ],
  [
    'has one space of ids for all consumers',
    "keeps ids of different consumers apart (mode 'each')",
    (store) => ({
      run: (messages, mode, work) =>
        store.run(
          messages.map((one) => ({ ...one, consumer: 'everybody' })),
          mode,
          work,
        ),
    }),
  ],
  [
    'hands over everything at once',
    "hands over one message at a time with mode 'each'",
    (store) => ({ run: (messages, _, work) => store.run(messages, 'batch', work) }),
  ],
  [
    'hands over one at a time',
    "hands over all messages at once with mode 'batch'",
    (store) => ({ run: (messages, _, work) => store.run(messages, 'each', work) }),
  ],
  [
    'takes ids of any case for the same',
    'tells ids apart that differ in case',
    (store) => ({
      run: (messages, mode, work) =>
        store.run(
          messages.map((one) => ({ ...one, id: one.id.toLowerCase() })),
          mode,
          work,
        ),
    }),
  ],
  [
    'runs a concurrent duplicate beside the first',
    'makes a concurrent duplicate wait, then skips it after a commit',
    (store) => {
      let run = 0
      return {
        run: (messages, mode, work) => {
          run++
          return store.run(
            messages.map((one) => ({ ...one, id: `${one.id}/${run}/${Math.random()}` })),
            mode,
            work,
          )
        },
      }
    },
  ],
  [
    'calls a busy message a duplicate',
    'makes a concurrent duplicate wait, then runs it after a rollback',
    (store) => ({
      run: async (messages, mode, work) => {
        const results = await store.run(messages, mode, work)
        return results.map((result) => (result === 'busy' ? 'duplicate' : result))
      },
    }),
  ],
  [
    'calls an unanswered commit committed',
    'calls a commit unknown that was not answered',
    (store) => ({
      run: (messages, mode, work) =>
        store.run(messages, mode, work).catch(() => messages.map(() => 'committed' as const)),
    }),
  ],
  [
    'prunes everything',
    'prunes rows that are old enough',
    (store) => ({ prune: (_, limit) => store.prune(-1_000, limit) }),
  ],
  [
    'prunes more than asked',
    'prunes at most as many rows as asked',
    (store) => ({ prune: (olderThanMs) => store.prune(olderThanMs, 1_000) }),
  ],
  [
    'prunes what is to be kept',
    'does not prune what is to be kept',
    () => ({ keep: () => Promise.resolve() }),
  ],
  [
    'keeps only what it has handled',
    'takes what is to be kept for handled',
    (store) => ({
      keep: (consumer, ids) => {
        const { database } = store as MemoryInbox
        const handled = ids.filter((id) => database.get('holdfast_inbox', `${consumer} ${id}`))
        return store.keep(consumer, handled)
      },
    }),
  ],
  [
    'counts starts in this process only',
    'counts starts from 1, also over stores',
    () => {
      const counts = new Map<string, number>()
      return {
        attempts: {
          started: async (consumer, id) => {
            const name = `${consumer}/${id}`
            counts.set(name, (counts.get(name) ?? 0) + 1)
            return counts.get(name)!
          },
          finished: async (consumer, id) => void counts.delete(`${consumer}/${id}`),
        },
      }
    },
  ],
  [
    'never forgets starts',
    'forgets the starts of a finished message',
    (store) => ({
      attempts: overlaid(store.attempts!, { finished: () => Promise.resolve() }),
    }),
  ],
  [
    'acknowledges a duplicate of an effect that was rolled back',
    'consumes: no effect of a handler that throws',
    (store) => {
      const seen = new Set<string>()
      return {
        run: async (messages, mode, work) => {
          const before = messages.map(({ id }) => seen.has(id))
          for (const { id } of messages) seen.add(id)
          if (before.every(Boolean)) return messages.map(() => 'duplicate' as const)
          return store.run(messages, mode, work)
        },
      }
    },
  ],
  [
    'makes the effect of every delivery',
    'consumes: one effect of each message, delivered three times',
    (store) => ({
      run: (messages, mode, work) =>
        store.run(
          messages.map((one) => ({ ...one, id: `${one.id}/${Math.random()}` })),
          mode,
          work,
        ),
    }),
  ],
]

function caseOf(beginning: string): Case<InboxHarness> {
  const found = inboxCases.filter(({ name }) => name.startsWith(beginning))
  expect(found.map(({ name }) => name)).toHaveLength(1)
  return found[0]!
}

describe('the inbox cases', () => {
  it('have names of their own', () => {
    const names = inboxCases.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
  })

  it.each(broken.map(([what, noticedBy, how]) => ({ what, noticedBy, how })))(
    'notice an inbox that $what',
    async ({ noticedBy, how }) => {
      const one = caseOf(noticedBy)
      await one.run(harness(() => ({})))
      await expect(one.run(harness(how))).rejects.toThrow(/./)
    },
  )
})
