import type { EnvelopeRow } from '../sql/envelope.ts'
import { BUCKETS } from '../sql/lease.ts'
import { brokerSql } from './broker-schema.ts'
import type { Prepared } from './prepared.ts'
import type { Budget, Room } from './room.ts'
import type { BucketSource } from './source.ts'

/** A row as a claim reads it. */
export type ClaimedRow = EnvelopeRow & {
  readonly id: number
  readonly bucket: number
  /** One of `DELAY`. */
  readonly delay: number
  readonly attempt: number
}

/** What is claimed: rows of a queue after the cursor, in these buckets, that are not held already. */
export interface Wanted {
  readonly queue: number
  readonly owner: string
  readonly cursor: number
  /** Some rows may have become due. */
  readonly due: boolean
  /** Keys wait behind their own message that waits for its next try. */
  readonly ordered: boolean
  readonly sources: ReadonlyMap<number, BucketSource>
  readonly held: { has(id: number): boolean; readonly size: number }
  readonly room: Room
  readonly budget: Budget
}

/** What a claim found. */
export interface Claim {
  readonly rows: readonly ClaimedRow[]
  readonly cursor: number
  /** Nothing is left behind the cursor. */
  readonly exhausted: boolean
  /** Buckets that turned out to be leased to somebody else. */
  readonly strange: boolean
}

/**
 * Reads rows to hand over and notes in each bucket's lease how far they go, so that whoever leases the
 * bucket after a crash knows which rows may have been handled. Part of a transaction; hand over after
 * its COMMIT.
 */
export function claimRows(db: Prepared, wanted: Wanted): Claim {
  const { queue, due } = wanted
  const woken = due && db.run(brokerSql.wakeDue, queue).changes > 0
  const found = readRows(db, wanted, woken ? 0 : wanted.cursor)
  const last = new Map<number, number>()
  for (const { bucket, id } of found.rows) last.set(bucket, id)
  const strange = new Set<number>()
  for (const [bucket, id] of last) {
    if (!handOut(db, wanted, bucket, id)) strange.add(bucket)
  }
  if (strange.size === 0) return { ...found, strange: false }
  const rows = found.rows.filter(({ bucket }) => !strange.has(bucket))
  return { ...found, rows, strange: true }
}

function readRows(db: Prepared, wanted: Wanted, from: number): Omit<Claim, 'strange'> {
  const { queue, sources, held, room, budget } = wanted
  // Held rows may lie behind the cursor too; they are read again and left out.
  const limit = budget.messages + held.size + 1
  const sql = wanted.ordered ? brokerSql.claimOrdered : brokerSql.claim
  const rows: ClaimedRow[] = []
  let cursor = from
  let count = 0
  // Row by row, since the bodies have to fit the room and one of them may be large.
  for (const one of db.of(sql).iterate(queue, from, maskOf(sources), limit)) {
    const row = one as unknown as ClaimedRow
    if (!held.has(row.id)) {
      if (!room.fits(budget, row.body?.length ?? 0)) return { rows, cursor, exhausted: false }
      rows.push(row)
    }
    cursor = row.id
    count++
  }
  return { rows, cursor, exhausted: count < limit }
}

const ALL = -1n

/** One bit per bucket. */
function maskOf(sources: ReadonlyMap<number, BucketSource>): bigint {
  if (sources.size === BUCKETS) return ALL
  let mask = 0n
  for (const bucket of sources.keys()) mask |= 1n << BigInt(bucket)
  return BigInt.asIntN(64, mask)
}

/** False when the bucket is not ours any more. */
function handOut(db: Prepared, wanted: Wanted, bucket: number, id: number): boolean {
  const epoch = wanted.sources.get(bucket)?.epoch ?? -1
  const { queue, owner } = wanted
  return db.of(brokerSql.handOut).run(id, queue, bucket, owner, epoch).changes > 0
}
