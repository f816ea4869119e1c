import type { Dialect } from './dialect.ts'
import { ROW_VERSION } from './envelope.ts'
import { OUTBOX_SCOPE, stillLeased } from './lease.ts'

/** Which lists narrow a read: an empty one would be parsed and probed for nothing. */
export interface ReadFilters {
  readonly buckets: boolean
  readonly notIds: boolean
  readonly notKeys: boolean
  readonly notTopics: boolean
}

/** Statements of the outbox; which parameters they take is written beside each. */
export interface OutboxStatements {
  /** bucket, key_hash, topic, message_id, time_ms, message_key, meta, body */
  readonly append: string
  /** due_at, then as `append` */
  readonly schedule: string
  /** One list for each filter that is used, in the order of `ReadFilters`; limit */
  readonly read: (used: ReadFilters) => string
  /** id, message_id, owner, epoch */
  readonly complete: string
  /** reason, id, message_id, owner, epoch; `complete` follows */
  readonly bury: string
  /** list of buckets, limit → id, due_at order */
  readonly due: string
  /** id: copies to the outbox; `unschedule` follows */
  readonly promote: string
  /** id */
  readonly unschedule: string
  /** list of buckets → in_ms */
  readonly nextDue: string
  /** → pending, scheduled, dead, oldest_ms */
  readonly stats: string
}

const envelope = 'message_id, time_ms, message_key, meta, body'
const stored = `bucket, key_hash, topic, created_at, v, ${envelope}`

/**
 * Rows are claimed by bucket and deleted when they are confirmed: no cursor, no status column. Each
 * completion names id and message id and asks whether the lease is still the same one.
 */
export function outboxStatements(d: Dialect): OutboxStatements {
  const leased = stillLeased(String(OUTBOX_SCOPE), 'holdfast_outbox.bucket')
  const values = `?, ?, ?, ${d.now}, ${ROW_VERSION}, ?, ?, ?, ?, ?`
  return {
    append: `INSERT INTO holdfast_outbox (${stored}) VALUES (${values})`,
    schedule: `INSERT INTO holdfast_outbox_scheduled (due_at, ${stored}) VALUES (?, ${values})`,
    read: (used) =>
      `SELECT id, bucket, key_hash, topic, ${envelope} FROM holdfast_outbox WHERE v <= ${ROW_VERSION}${filters(d, used)} ORDER BY id ${d.limit}`,
    complete: `DELETE FROM holdfast_outbox WHERE id = ? AND message_id = ? AND ${leased}`,
    bury: `INSERT INTO holdfast_outbox_dead (outbox_id, reason, dead_at, ${stored}) SELECT id, ?, ${d.now}, ${stored} FROM holdfast_outbox WHERE id = ? AND message_id = ? AND ${leased}`,
    due: `SELECT id FROM holdfast_outbox_scheduled WHERE due_at <= ${d.now} AND ${d.oneOf('bucket')} ORDER BY due_at, id ${d.limit}`,
    promote: `INSERT INTO holdfast_outbox (${stored}) SELECT bucket, key_hash, topic, ${d.now}, v, ${envelope} FROM holdfast_outbox_scheduled WHERE id = ?`,
    unschedule: 'DELETE FROM holdfast_outbox_scheduled WHERE id = ?',
    nextDue: `SELECT min(due_at) - ${d.now} AS in_ms FROM holdfast_outbox_scheduled WHERE ${d.oneOf('bucket')}`,
    stats: `SELECT (SELECT count(*) FROM holdfast_outbox) AS pending, (SELECT count(*) FROM holdfast_outbox_scheduled) AS scheduled, (SELECT count(*) FROM holdfast_outbox_dead) AS dead, (SELECT ${d.now} - created_at FROM holdfast_outbox ORDER BY id LIMIT 1) AS oldest_ms`,
  }
}

function filters(d: Dialect, used: ReadFilters): string {
  const wanted = [
    used.buckets && d.oneOf('bucket'),
    used.notIds && `NOT ${d.oneOf('id')}`,
    used.notKeys && `NOT ${d.oneOf('key_hash')}`,
    used.notTopics && `NOT ${d.oneOf('topic')}`,
  ]
  return wanted.map((filter) => (filter === false ? '' : ` AND ${filter}`)).join('')
}
