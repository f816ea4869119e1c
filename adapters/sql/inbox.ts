import type { Dialect } from './dialect.ts'

/** Statements of the inbox and of the attempt counts; all take consumer and message id first. */
export interface InboxStatements {
  /** changes nothing when the message was handled before */
  readonly claim: string
  readonly unclaim: string
  /** makes the row of a message that was never handled */
  readonly keep: string
  /** olderThanMs, limit */
  readonly prune: string
  /** → started */
  readonly started: string
  readonly finished: string
  /** olderThanMs, limit */
  readonly pruneAttempts: string
}

/** The row goes in first, in the transaction of the effect; the consumer is part of its key. */
export function inboxStatements({ now, limit }: Dialect): InboxStatements {
  const old = (table: string, where: string): string =>
    `DELETE FROM ${table} WHERE (consumer, message_id) IN (SELECT consumer, message_id FROM ${table} WHERE ${where} at <= ${now} - ? ORDER BY at ${limit})`
  return {
    claim: `INSERT INTO holdfast_inbox (consumer, message_id, at) VALUES (?, ?, ${now}) ON CONFLICT DO NOTHING`,
    unclaim: 'DELETE FROM holdfast_inbox WHERE consumer = ? AND message_id = ?',
    keep: `INSERT INTO holdfast_inbox (consumer, message_id, at, kept) VALUES (?, ?, ${now}, 1) ON CONFLICT (consumer, message_id) DO UPDATE SET kept = 1`,
    prune: old('holdfast_inbox', 'kept = 0 AND'),
    started: `INSERT INTO holdfast_attempt (consumer, message_id, started, at) VALUES (?, ?, 1, ${now}) ON CONFLICT (consumer, message_id) DO UPDATE SET started = started + 1, at = excluded.at RETURNING started`,
    finished: 'DELETE FROM holdfast_attempt WHERE consumer = ? AND message_id = ?',
    pruneAttempts: old('holdfast_attempt', ''),
  }
}
