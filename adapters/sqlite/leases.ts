import { leaseStatements, type LeaseStatements } from '../sql/lease.ts'
import { dialect } from './dialect.ts'
import type { Prepared } from './prepared.ts'

/** Lease statements in SQLite's words. */
const leaseSql: LeaseStatements = leaseStatements(dialect)

/** Leases end at the latest after so many times the time to live that is asked for here. */
const LONGEST_LEASE = 10

/** A bucket as it is leased, and up to which row it was handed out. */
export interface HeldLease {
  readonly bucket: number
  readonly epoch: number
  readonly handedTo: number
}

/** What a round of leasing found. */
export interface Round {
  readonly leases: readonly HeldLease[]
  readonly contenders: number
}

/** What is asked of a round. */
export interface Asked {
  readonly scope: number
  readonly owner: string
  readonly ttlMs: number
  /** How many buckets to have in the end, from the number of contenders. */
  readonly want: (contenders: number) => number
}

/** Makes the lease rows of a scope. */
export function makeLeases(db: Prepared, scope: number, buckets: number): void {
  for (let bucket = 0; bucket < buckets; bucket++) db.run(leaseSql.make, scope, bucket)
}

/** In one transaction: says that we are here, renews what is ours, takes free buckets up to our share. */
export function leaseRound(db: Prepared, { scope, owner, ttlMs, want }: Asked): Round {
  const mostMs = ttlMs * LONGEST_LEASE
  db.run(leaseSql.capLeases, mostMs, scope, mostMs)
  db.run(leaseSql.capContenders, mostMs, scope, mostMs)
  db.run(leaseSql.contend, scope, owner, ttlMs)
  db.run(leaseSql.forgetGone, scope)
  db.run(leaseSql.renew, ttlMs, scope, owner)
  const contenders = db.get(leaseSql.contenders, scope)?.['count'] as number
  const leases = myLeases(db, scope, owner)
  const missing = want(contenders) - leases.length
  if (missing <= 0) return { leases, contenders }
  const taken = db.run(leaseSql.take, owner, ttlMs, scope, scope, missing).changes
  return { leases: taken > 0 ? myLeases(db, scope, owner) : leases, contenders }
}

/** The buckets leased to the owner, whether or not the lease is about to expire. */
export function myLeases(db: Prepared, scope: number, owner: string): readonly HeldLease[] {
  return db.all(leaseSql.mine, scope, owner).map((row) => ({
    bucket: row['bucket'] as number,
    epoch: row['epoch'] as number,
    handedTo: row['handed_to'] as number,
  }))
}

/** Gives buckets up, so that others need not wait for them to expire; with the last one, leaves. */
export function giveUpLeases(
  db: Prepared,
  scope: number,
  owner: string,
  leases: readonly { readonly bucket: number; readonly epoch: number }[],
): void {
  for (const { bucket, epoch } of leases) db.run(leaseSql.giveUp, scope, bucket, owner, epoch)
  if (myLeases(db, scope, owner).length === 0) db.run(leaseSql.leave, scope, owner)
}
