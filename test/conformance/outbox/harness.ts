import type { OutboxStore } from '../../../src/contract/store.ts'
import type { Pace } from '../limits.ts'

/** A transaction that stays open between calls. */
export interface OpenTransaction<Tx> {
  readonly tx: Tx
  commit(): Promise<void>
  rollback(): Promise<void>
}

/** One database with an empty outbox, as the cases use it. */
export interface OutboxDatabase<Tx> {
  /** A store that is not open yet; each one as another process would have it. */
  store(): OutboxStore<Tx>
  /** Runs `work` in a transaction of the caller's own: commits when it resolves, rolls back when it rejects. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Opens one of several transactions at a time. Absent where the database has one writer. */
  readonly begin?: () => Promise<OpenTransaction<Tx>>
  /** Handles that are no transaction and easily taken for one: a pool, a connection without BEGIN. */
  readonly notTransactions?: readonly (readonly [what: string, handle: unknown])[]
  close(): Promise<void>
}

/** What the suite needs to know about an outbox store. */
export interface OutboxHarness<Tx = unknown> extends Pace {
  /** Title of the suite. */
  readonly name: string
  /** A database of its own for every call: leases and counts are global to one. */
  make(): Promise<OutboxDatabase<Tx>>
  /** Several transactions can be open at once, so `begin` is there. Default false. */
  readonly concurrentTransactions?: boolean
  /** `onAppended` also tells of commits made by `transaction`. Default false. */
  readonly nudgesOnCommit?: boolean
}
