import type { Lease, OutboxRow, RowRef, Skip, StoredRow } from '../../src/contract/store.ts'
import { LeaseTable } from './leases.ts'
import { RowList } from './row-list.ts'

/** A row with the time at which it was written. */
export interface TimedRow extends StoredRow {
  readonly createdMs: number
}

/** A row given up, with the reason. */
export interface DeadRow extends TimedRow {
  readonly reason: string
  readonly deadMs: number
}

interface ScheduledRow {
  readonly row: TimedRow
  readonly dueMs: number
}

/** What the tables need of their database. */
interface Ids {
  nextId(): number
  nowMs(): number
}

/** The tables of the outbox: rows that wait, rows for later, dead rows and leases. */
export class OutboxTable {
  readonly leases: LeaseTable
  readonly buckets: number
  readonly pending: RowList<TimedRow> = new RowList<TimedRow>()
  readonly dead: DeadRow[] = []
  readonly #database: Ids
  #scheduled: ScheduledRow[] = []

  constructor(buckets: number, database: Ids) {
    this.buckets = buckets
    this.leases = new LeaseTable(buckets)
    this.#database = database
  }

  get scheduled(): number {
    return this.#scheduled.length
  }

  /** The rows with the ids they will have when they are committed. */
  prepare(rows: readonly OutboxRow[]): readonly TimedRow[] {
    const createdMs = this.#database.nowMs()
    return rows.map(({ envelope, hash, keyHash }) => ({
      id: this.#database.nextId(),
      messageId: envelope.id,
      bucket: (hash >>> 0) % this.buckets,
      keyHash,
      envelope,
      createdMs,
    }))
  }

  /** Makes prepared rows visible; those for later wait in the schedule. */
  put(rows: readonly TimedRow[]): void {
    const now = this.#database.nowMs()
    for (const row of rows) {
      const dueMs = row.envelope.deliverAtMs
      if (dueMs !== null && dueMs > now) this.#schedule({ row, dueMs })
      else this.pending.insert(undated(row))
    }
  }

  read(leases: readonly Lease[], limit: number, skip: Skip): readonly StoredRow[] {
    const buckets = this.leases.held(leases)
    const ids = new Set(skip.ids)
    const keys = new Set(skip.keyHashes)
    const topics = new Set(skip.topics)
    const wanted = (row: TimedRow): boolean =>
      buckets.has(row.bucket) &&
      !ids.has(row.id) &&
      !keys.has(row.keyHash) &&
      !(topics.size > 0 && topics.has(topicOf(row)))
    return this.pending.first(limit, wanted)
  }

  /** Removes rows of leases that still hold; returns those that were there. */
  remove(leases: readonly Lease[], refs: readonly RowRef[]): readonly TimedRow[] {
    const buckets = this.leases.held(leases)
    const removed: TimedRow[] = []
    for (const { id, messageId } of refs) {
      const row = this.pending.find(id)
      if (row === undefined || row.messageId !== messageId || !buckets.has(row.bucket)) continue
      this.pending.delete(id)
      removed.push(row)
    }
    return removed
  }

  bury(rows: readonly TimedRow[], reason: string): void {
    const deadMs = this.#database.nowMs()
    for (const row of rows) this.dead.push({ ...row, reason, deadMs })
  }

  /** Moves what is due, in due order, with new ids. */
  promote(
    leases: readonly Lease[],
    limit: number,
  ): { readonly moved: number; readonly nextDueMs: number | null } {
    const buckets = this.leases.held(leases)
    const now = this.#database.nowMs()
    const mine = this.#scheduled.filter(({ row }) => buckets.has(row.bucket))
    const due = mine.filter(({ dueMs }) => dueMs <= now).slice(0, limit)
    const moved = new Set(due)
    if (due.length > 0) this.#scheduled = this.#scheduled.filter((one) => !moved.has(one))
    for (const { row } of due) {
      this.pending.insert(undated({ ...row, id: this.#database.nextId(), createdMs: now }))
    }
    const next = mine.find((one) => !moved.has(one))
    return {
      moved: due.length,
      nextDueMs: next === undefined ? null : Math.max(0, next.dueMs - now),
    }
  }

  /** Keeps the schedule in due order, equal ones in the order of their ids. */
  #schedule(entry: ScheduledRow): void {
    const before = (one: ScheduledRow): boolean =>
      one.dueMs < entry.dueMs || (one.dueMs === entry.dueMs && one.row.id < entry.row.id)
    let at = this.#scheduled.length
    while (at > 0 && !before(this.#scheduled[at - 1] as ScheduledRow)) at--
    this.#scheduled.splice(at, 0, entry)
  }
}

/** The due time has done its work: a broker that cannot schedule takes the row too. */
function undated(row: TimedRow): TimedRow {
  if (row.envelope.deliverAtMs === null) return row
  return { ...row, envelope: { ...row.envelope, deliverAtMs: null } }
}

function topicOf({ envelope: { to } }: TimedRow): string {
  return to.kind === 'reply' ? '' : to.topic
}
