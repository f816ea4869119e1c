import type { Dialect } from './dialect.ts'

/** The outbox's own scope; the others are numbers given out by whoever uses leases beside it. */
export const OUTBOX_SCOPE = 0

/** Buckets of a scope, unless it says otherwise. */
export const BUCKETS = 64

/** Statements for leases; which parameters they take is written beside each. */
export interface LeaseStatements {
  /** scope, bucket */
  readonly make: string
  /** scope, owner, ttlMs */
  readonly contend: string
  /** mostMs, scope, mostMs */
  readonly capLeases: string
  /** mostMs, scope, mostMs */
  readonly capContenders: string
  /** scope */
  readonly forgetGone: string
  /** ttlMs, scope, owner */
  readonly renew: string
  /** owner, ttlMs, scope, scope, limit */
  readonly take: string
  /** scope, owner → bucket, epoch, handed_to */
  readonly mine: string
  /** scope → count */
  readonly contenders: string
  /** scope → count */
  readonly buckets: string
  /** scope, bucket, owner, epoch */
  readonly giveUp: string
  /** scope, owner */
  readonly leave: string
}

/**
 * A bucket belongs to one owner until its lease expires on the database's clock; the epoch grows with
 * each change of owner, and every completion asks for it. Nobody is declared dead: only expiry frees.
 * The clock may have been set back since a lease was written: one that lasts far too long is shortened,
 * not taken, since an owner that lives renews it long before its new end.
 */
export function leaseStatements({ now, limit }: Dialect): LeaseStatements {
  const capped = (table: string): string =>
    `UPDATE ${table} SET expires_at = ${now} + ? WHERE scope = ? AND expires_at > ${now} + ?`
  return {
    make: 'INSERT INTO holdfast_lease (scope, bucket) VALUES (?, ?) ON CONFLICT DO NOTHING',
    contend: `INSERT INTO holdfast_contender (scope, owner, expires_at) VALUES (?, ?, ${now} + ?) ON CONFLICT (scope, owner) DO UPDATE SET expires_at = excluded.expires_at`,
    capLeases: capped('holdfast_lease'),
    capContenders: capped('holdfast_contender'),
    forgetGone: `DELETE FROM holdfast_contender WHERE scope = ? AND expires_at <= ${now}`,
    renew: `UPDATE holdfast_lease SET expires_at = ${now} + ? WHERE scope = ? AND owner = ?`,
    take: `UPDATE holdfast_lease SET owner = ?, epoch = epoch + 1, expires_at = ${now} + ? WHERE scope = ? AND bucket IN (SELECT bucket FROM holdfast_lease WHERE scope = ? AND (owner IS NULL OR expires_at <= ${now}) ORDER BY bucket ${limit})`,
    mine: 'SELECT bucket, epoch, handed_to FROM holdfast_lease WHERE scope = ? AND owner = ? ORDER BY bucket',
    contenders: 'SELECT count(*) AS count FROM holdfast_contender WHERE scope = ?',
    buckets: 'SELECT count(*) AS count FROM holdfast_lease WHERE scope = ?',
    giveUp:
      'UPDATE holdfast_lease SET owner = NULL, expires_at = 0 WHERE scope = ? AND bucket = ? AND owner = ? AND epoch = ?',
    leave: 'DELETE FROM holdfast_contender WHERE scope = ? AND owner = ?',
  }
}

/** Condition that the row's bucket is still leased to (owner, epoch), which are its two parameters. */
export function stillLeased(scope: string, bucket: string): string {
  return `EXISTS (SELECT 1 FROM holdfast_lease l WHERE l.scope = ${scope} AND l.bucket = ${bucket} AND l.owner = ? AND l.epoch = ?)`
}
