import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import type { Envelope } from '../../../src/contract/message.ts'
import { textHash } from '../../../src/contract/partition.ts'
import type { Lease, OutboxRow, OutboxStore, RowRef, Skip } from '../../../src/contract/store.ts'
import { draft, text, type Draft } from '../broker/envelopes.ts'
import type { Case, Need } from '../case.ts'
import { Limits } from '../limits.ts'
import { actThenEnd, Problems } from '../problems.ts'
import type { OutboxDatabase, OutboxHarness } from './harness.ts'

/** More buckets than any store has: "all of them". */
export const ALL = 1_000_000

/** Nothing to be left out of a read. */
export const NO_SKIP: Skip = Object.freeze({ ids: [], keyHashes: [], topics: [] })

/** A lease long enough not to expire within a case. */
const LONG_TTL_MS = 600_000

/** What a case of the outbox suite works on: one database, open stores, bounded waits. */
export class Desk<Tx> extends Limits {
  readonly database: OutboxDatabase<Tx>
  readonly #abort = new AbortController()
  readonly #open: OutboxStore<Tx>[] = []

  constructor(harness: OutboxHarness<Tx>, database: OutboxDatabase<Tx>) {
    super(harness)
    this.database = database
  }

  /** One more open store on the database. */
  async store(): Promise<OutboxStore<Tx>> {
    const store = this.database.store()
    this.#open.push(store)
    const { signal } = this.#abort
    const context = { clock: this.clock, crash: noCrashes, emit: silent, signal }
    await this.within('open()', store.open(context))
    return store
  }

  /** Appends in a transaction of the caller's own, which commits. */
  append(store: OutboxStore<Tx>, appended: readonly OutboxRow[]): Promise<void> {
    return this.within(
      'append()',
      this.database.transaction((tx) => store.append(tx, appended)),
    )
  }

  /** All buckets for a relay named `owner`. */
  async leases(
    store: OutboxStore<Tx>,
    owner = 'relay',
    ttlMs: number = LONG_TTL_MS,
  ): Promise<readonly Lease[]> {
    return (await this.within('lease()', store.lease(owner, ALL, ttlMs))).leases
  }

  /** Bodies of everything a relay with all buckets can read, in the order it reads them. */
  async bodies(store: OutboxStore<Tx>, leases?: readonly Lease[]): Promise<readonly string[]> {
    const held = leases ?? (await this.leases(store))
    return (await store.read(held, ALL, NO_SKIP)).map(({ envelope }) => text(envelope))
  }

  async end(): Promise<void> {
    const problems = new Problems()
    for (const store of this.#open) {
      await problems.during(() => this.within('close()', store.close()))
    }
    this.#abort.abort(new Error('the case has ended'))
    await problems.during(() => this.within('closing the database', this.database.close()))
    problems.raise()
  }
}

/** A row as the core makes it: hashed by topic and key, or by id when it has no key. */
export function row(topic: string, given: Draft = {}): OutboxRow {
  const envelope = draft(topic, given) as Envelope & { readonly id: string }
  const ordered = envelope.orderKey !== null
  const hash = textHash(ordered ? `${topic}\n${envelope.orderKey}` : envelope.id)
  return { envelope, hash, keyHash: ordered ? hash || 1 : 0 }
}

/** `count` rows with the bodies `<key>:<n>`. */
export function rows(topic: string, key: string | null, count: number): readonly OutboxRow[] {
  return Array.from({ length: count }, (_, n) => row(topic, { key, body: `${key ?? '-'}:${n}` }))
}

/** Rows as their completion names them. */
export function refs(read: readonly RowRef[]): readonly RowRef[] {
  return read.map(({ id, messageId, bucket }) => ({ id, messageId, bucket }))
}

/** Makes a case of the outbox suite: the name is the sentence that has to hold. */
export function outboxCase(
  name: string,
  needs: readonly Need<OutboxHarness>[],
  act: (desk: Desk<unknown>) => Promise<void>,
): Case<OutboxHarness> {
  const run = async (harness: OutboxHarness): Promise<void> => {
    const desk = new Desk(harness, await harness.make())
    await actThenEnd(
      () => act(desk),
      () => desk.end(),
    )
  }
  return { name, needs, run }
}

/** The database can have several transactions open at once. */
export const concurrentTransactions: Need<OutboxHarness> = {
  what: 'several open transactions at a time',
  met: (harness) => harness.concurrentTransactions === true,
}

/** The store sees commits of the caller's own transactions. */
export const nudgesOnCommit: Need<OutboxHarness> = {
  what: 'a nudge at commits of own transactions',
  met: (harness) => harness.nudgesOnCommit === true,
}
