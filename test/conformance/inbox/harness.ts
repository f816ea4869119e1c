import type { InboxStore } from '../../../src/contract/store.ts'
import type { Pace } from '../limits.ts'

/** One database with an empty inbox, as the cases use it. */
export interface InboxDatabase<Tx> {
  /** A store that is not open yet; each one as another process would have it. */
  store(): InboxStore<Tx>
  /** Adds a line to a table of the user's own, which has no unique key, inside the transaction. */
  effect(tx: Tx, text: string): Promise<void>
  /** All lines that are committed, in any order. */
  effects(): Promise<readonly string[]>
  /** The next commit of `store` ends without an answer, having worked or not. Absent where that cannot be arranged. */
  loseCommit?(store: InboxStore<Tx>, really: 'committed' | 'rolled back'): void
  close(): Promise<void>
}

/** What the suite needs to know about an inbox store. */
export interface InboxHarness<Tx = unknown> extends Pace {
  /** Title of the suite. */
  readonly name: string
  /** A database of its own for every call. */
  make(): Promise<InboxDatabase<Tx>>
  /** `loseCommit` is there. Default false. */
  readonly losesCommits?: boolean
  /** The stores count starts durably (`attempts`). Default true. */
  readonly countsAttempts?: boolean
}
