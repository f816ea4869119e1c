import type { Clock } from './clock.ts'
import type { CrashPoints } from './crash-points.ts'
import type { Delivery } from './broker.ts'
import type { Emit } from './events.ts'
import type { Envelope } from './message.ts'

/** What the core hands a store when it opens. */
export interface StoreContext {
  readonly clock: Clock
  readonly crash: CrashPoints
  readonly emit: Emit
  readonly signal: AbortSignal
}

/** An envelope on its way into the outbox. */
export interface OutboxRow {
  readonly envelope: Envelope & { readonly id: string }
  /** 32-bit hash that chooses the bucket: of topic and order key, or of the id when unordered. */
  readonly hash: number
  /** The same hash when ordered, never 0; 0 when unordered, so that no blocked key matches it. */
  readonly keyHash: number
}

/** Identifies a row for its completion: by both, since a database may reuse ids. */
export interface RowRef {
  readonly id: number
  readonly messageId: string
  readonly bucket: number
}

/** A row as the relay reads it. */
export interface StoredRow extends RowRef {
  readonly keyHash: number
  readonly envelope: Envelope & { readonly id: string }
}

/** A relay's right to a bucket of rows; `epoch` grows with each change of owner and fences completions. */
export interface Lease {
  readonly bucket: number
  readonly epoch: number
  readonly owner: string
}

/** What leasing yields: all buckets held now, and between how many relays they have to be shared. */
export interface LeaseGrant {
  readonly leases: readonly Lease[]
  /** Buckets in all. */
  readonly buckets: number
  /** Relays that asked within their time to live, this one included. */
  readonly contenders: number
}

/** Rows not to be read now. Each list is bounded by the relay. */
export interface Skip {
  readonly ids: readonly number[]
  readonly keyHashes: readonly number[]
  readonly topics: readonly string[]
}

/** Counts of an outbox. `oldestAgeMs` of the oldest row waiting, on the database's clock. */
export interface OutboxStats {
  readonly pending: number
  readonly scheduled: number
  readonly dead: number
  readonly oldestAgeMs: number | null
}

/** What a database adapter provides for the outbox. All times are on the database's clock. */
export interface OutboxStore<Tx> {
  /** Checks schema and settings, creates what is missing when its option says so. Idempotent. */
  open(context: StoreContext): Promise<void>
  /**
   * In the caller's transaction, all rows or none, also when the caller catches the error and commits;
   * throws a `HoldfastError` (code `not-a-transaction`) when `tx` is a pool or no transaction is open
   * on it. Rows with `deliverAtMs` wait until due.
   */
  append(tx: Tx, rows: readonly OutboxRow[]): Promise<void>
  /** Like `append` in a transaction of the store's own; resolves after its commit. For diverting a publish. */
  appendAlone(rows: readonly OutboxRow[]): Promise<void>
  /** Acquires or renews up to `want` buckets. The age of a lease counts from before the call, on the caller's clock. */
  lease(owner: string, want: number, ttlMs: number): Promise<LeaseGrant>
  /** Rows of these buckets in id order, without those to skip. */
  read(leases: readonly Lease[], limit: number, skip: Skip): Promise<readonly StoredRow[]>
  /** Fenced delete by (id, message id); how many were still ours. */
  complete(leases: readonly Lease[], rows: readonly RowRef[]): Promise<number>
  /** Moves to `holdfast_outbox_dead` with the reason, fenced; how many were still ours. */
  park(leases: readonly Lease[], rows: readonly RowRef[], reason: string): Promise<number>
  /** Moves due rows from the schedule to the outbox, in due order. */
  promote(
    leases: readonly Lease[],
    limit: number,
  ): Promise<{ readonly moved: number; readonly nextDueMs: number | null }>
  release(leases: readonly Lease[]): Promise<void>
  stats(): Promise<OutboxStats>
  /** Calls back after local commits that may have added rows: a hint, polling is the truth. Returns how to stop. */
  onAppended(listener: () => void): () => void
  close(): Promise<void>
}

/** A message as the inbox knows it. */
export interface Identified {
  /** `topic.group`: the same id may mean something else in another topic or group. */
  readonly consumer: string
  readonly id: string
  /** A store that shares the broker's database may settle it in the same commit; a later ack() is then a no-op. */
  readonly delivery?: Delivery
}

/** What the work reports for one message: 'failed' had no effect that may stay. */
export type WorkResult = 'done' | 'failed'

/**
 * committed: effect and row are committed. duplicate: an earlier transaction did it. busy: another
 * transaction holds the id right now. failed: its work failed and left nothing behind.
 */
export type ClaimResult = 'committed' | 'duplicate' | 'busy' | 'failed'

/** What a database adapter provides for effects that happen once. */
export interface InboxStore<Tx> {
  open(context: StoreContext): Promise<void>
  /**
   * One transaction: inserts the rows first, hands `work` the indexes that are new here, commits what
   * it reports done, and returns after the commit. With mode 'each', `work` gets one index at a time,
   * inside a savepoint that is rolled back when it reports failed; with 'batch', all at once, and a
   * failed one only has its row removed. When `work` rejects, everything is rolled back and its
   * error is passed on. A commit whose result is unknown rejects with code `commit-unknown`.
   */
  run(
    messages: readonly Identified[],
    mode: 'each' | 'batch',
    work: (tx: Tx, fresh: readonly number[]) => Promise<readonly WorkResult[]>,
  ): Promise<readonly ClaimResult[]>
  /**
   * Parked or dead-lettered: `run` takes each of these ids for a duplicate from now on, whether or not
   * it was ever committed, and `prune` leaves it alone. Resolves after the commit.
   */
  keep(consumer: string, ids: readonly string[]): Promise<void>
  /** Deletes at most `limit` rows older than that, on the database's clock; how many. */
  prune(olderThanMs: number, limit: number): Promise<number>
  /** Durable count of starts, for deliveries that may have been handled before. */
  readonly attempts?: AttemptStore
  close(): Promise<void>
}

/** Counts starts durably, so that a message that kills the process is found. */
export interface AttemptStore {
  /** Adds one and returns the count; resolves after the commit. */
  started(consumer: string, id: string): Promise<number>
  /** Forgets the count: the message was finished. */
  finished(consumer: string, id: string): Promise<void>
}
