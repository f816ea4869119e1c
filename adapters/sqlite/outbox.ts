import type { Deadline } from '../../src/contract/broker.ts'
import { systemRandom } from '../../src/contract/clock.ts'
import { ClosedError, PublishRefusedError } from '../../src/contract/errors.ts'
import type { Destination } from '../../src/contract/message.ts'
import { integerOption } from '../../src/contract/option.ts'
import type {
  Lease,
  LeaseGrant,
  OutboxRow,
  OutboxStats,
  OutboxStore,
  RowRef,
  Skip,
  StoreContext,
  StoredRow,
} from '../../src/contract/store.ts'
import { badId, EnvelopeRows, storedBytes, type EnvelopeRow } from '../sql/envelope.ts'
import { BUCKETS, OUTBOX_SCOPE } from '../sql/lease.ts'
import { outboxStatements } from '../sql/outbox.ts'
import { outboxTables } from '../sql/schema.ts'
import { dialect } from './dialect.ts'
import { ensureSchema } from './ensure-schema.ts'
import { endsTransaction, storageError, troubleOf } from './errors.ts'
import type { SqliteFile } from './file.ts'
import { giveUpLeases, leaseRound, myLeases } from './leases.ts'
import { resolveFile, type FileOptions, type ResolvedFile } from './options.ts'
import { ensureBuckets } from './outbox-buckets.ts'
import type { Prepared } from './prepared.ts'
import { shareFile, type FileShare } from './share.ts'
import { OpenTransaction, transact, type SqliteTransaction } from './transaction.ts'
import { appenderOf, type Appender, type UserConnection } from './user-connection.ts'
import { Watch } from './watch.ts'

/** Options of `sqliteOutbox`. */
export interface SqliteOutboxOptions extends FileOptions {
  /** Buckets that relays share, 1 to 1 024; kept in the file, not to be changed while it has rows. Default 64. */
  readonly buckets?: number
  /** How often other processes' appends are looked for. Default 20. */
  readonly pollMs?: number
}

interface Resolved extends ResolvedFile {
  readonly buckets: number
  readonly pollMs: number
}

/** What there is while the store is open. */
interface Opened {
  readonly share: FileShare
  readonly context: StoreContext
}

const sql = outboxStatements(dialect)

/**
 * The outbox in a SQLite file. `append` takes the tx of `openDatabase().transaction()`, `context.tx`
 * of an inbox on the same file, or a connection of the user's own with an open transaction. Throws an
 * `OptionError`; does no I/O before `open`.
 */
export function sqliteOutbox(
  options: SqliteOutboxOptions,
): OutboxStore<SqliteTransaction | UserConnection> {
  return new SqliteOutbox({
    ...resolveFile('sqliteOutbox', options, ['buckets', 'pollMs']),
    buckets: integerOption('buckets', options.buckets, BUCKETS, { min: 1, max: 1_024 }),
    pollMs: integerOption('pollMs', options.pollMs, 20, { min: 1, max: 60_000 }),
  })
}

class SqliteOutbox implements OutboxStore<SqliteTransaction | UserConnection> {
  readonly #options: Resolved
  readonly #rows = new EnvelopeRows()
  readonly #topics = new Map<string, Destination>()
  readonly #listeners = new Set<() => void>()
  #opening: Promise<Opened> | null = null
  #opened: Opened | null = null
  #watching: (() => void) | null = null
  #closing: Promise<void> | null = null

  constructor(options: Resolved) {
    this.#options = options
  }

  async open(context: StoreContext): Promise<void> {
    if (this.#closing !== null) throw new ClosedError('outbox')
    this.#opening ??= this.#open(context)
    try {
      await this.#opening
    } catch (error) {
      this.#opening = null
      throw error
    }
  }

  // Appends at once, in the turn of the caller, whose transaction may be synchronous.
  async append(tx: SqliteTransaction | UserConnection, rows: readonly OutboxRow[]): Promise<void> {
    const { file } = this.#here().share
    const appender = appenderOf(tx, file)
    try {
      this.#insertAll(appender, rows)
    } catch (error) {
      const named = storageError(error, file.path, 'appending to the outbox')
      if (tx instanceof OpenTransaction && endsTransaction(troubleOf(error))) tx.broke(named)
      throw named
    }
  }

  appendAlone(rows: readonly OutboxRow[]): Promise<void> {
    const { share, context } = this.#here()
    const options = { file: share.file, deadline: this.#deadline(), crash: context.crash }
    return transact({ ...options, what: 'appendAlone()', kind: 'own' }, async (db, shared) => {
      shared.appended = true
      this.#insert(db, rows)
    })
  }

  lease(owner: string, want: number, ttlMs: number): Promise<LeaseGrant> {
    const { crash } = this.#here().context
    const { buckets } = this.#options
    const asked = { scope: OUTBOX_SCOPE, owner, ttlMs, want: () => want }
    return this.#write((db) => {
      const { leases, contenders } = leaseRound(db, asked)
      crash.at('during_lease_renew')
      return {
        leases: leases.map(({ bucket, epoch }) => ({ bucket, epoch, owner })),
        buckets,
        contenders,
      }
    })
  }

  async read(leases: readonly Lease[], limit: number, skip: Skip): Promise<readonly StoredRow[]> {
    if (leases.length === 0) return []
    const used = {
      buckets: leases.length < this.#options.buckets,
      notIds: skip.ids.length > 0,
      notKeys: skip.keyHashes.length > 0,
      notTopics: skip.topics.length > 0,
    }
    const lists = [
      ...(used.buckets ? [leases.map(({ bucket }) => bucket)] : []),
      ...[skip.ids, skip.keyHashes, skip.topics].filter((list) => list.length > 0),
    ]
    const bound = lists.map((list) => dialect.list(list) as string)
    const rows = this.#read(({ reader }) => reader.all(sql.read(used), ...bound, limit))
    return rows.map((row) => this.#stored(row as unknown as OutboxRowRead))
  }

  complete(leases: readonly Lease[], rows: readonly RowRef[]): Promise<number> {
    const { crash } = this.#here().context
    return this.#write((db) => {
      const completed = countFenced(leases, rows, (row, lease) => {
        const statement = db.of(sql.complete)
        return statement.run(row.id, row.messageId, lease.owner, lease.epoch).changes
      })
      crash.at('during_delete')
      return completed
    })
  }

  park(leases: readonly Lease[], rows: readonly RowRef[], reason: string): Promise<number> {
    const { crash } = this.#here().context
    return this.#write((db) =>
      countFenced(leases, rows, ({ id, messageId }, { owner, epoch }) => {
        db.run(sql.bury, reason, id, messageId, owner, epoch)
        crash.at('during_park')
        return db.run(sql.complete, id, messageId, owner, epoch).changes
      }),
    )
  }

  async promote(
    leases: readonly Lease[],
    limit: number,
  ): Promise<{ readonly moved: number; readonly nextDueMs: number | null }> {
    // Looked up without the lock first: mostly nothing is due, and this is asked after every append.
    const ours = dialect.list(leases.map(({ bucket }) => bucket)) as string
    const inMs = this.#read(({ reader }) => reader.get(sql.nextDue, ours))?.['in_ms'] as
      number | null
    if (inMs === null || inMs > 0) return { moved: 0, nextDueMs: inMs }
    return this.#write((db) => {
      const buckets = dialect.list(stillHeld(db, leases)) as string
      const due = db.all(sql.due, buckets, limit)
      for (const { id } of due) {
        db.run(sql.promote, id as number)
        db.run(sql.unschedule, id as number)
      }
      const nextMs = db.get(sql.nextDue, buckets)?.['in_ms'] as number | null
      return { moved: due.length, nextDueMs: nextMs === null ? null : Math.max(0, nextMs) }
    })
  }

  release(leases: readonly Lease[]): Promise<void> {
    return this.#write((db) => {
      for (const owner of new Set(leases.map((lease) => lease.owner))) {
        const theirs = leases.filter((lease) => lease.owner === owner)
        giveUpLeases(db, OUTBOX_SCOPE, owner, theirs)
      }
    })
  }

  async stats(): Promise<OutboxStats> {
    const row = this.#read(({ reader }) => reader.get(sql.stats))
    const oldestMs = row?.['oldest_ms'] as number | null
    return {
      pending: row?.['pending'] as number,
      scheduled: row?.['scheduled'] as number,
      dead: row?.['dead'] as number,
      oldestAgeMs: oldestMs === null ? null : Math.max(0, oldestMs),
    }
  }

  onAppended(listener: () => void): () => void {
    const entry = (): void => listener()
    this.#listeners.add(entry)
    this.#watching ??= this.#watch()
    return () => {
      this.#listeners.delete(entry)
      if (this.#listeners.size === 0) this.#stopWatching()
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #open(context: StoreContext): Promise<Opened> {
    const { clock, signal } = context
    const deadline = this.#deadlineOn(clock)
    const share = await shareFile(this.#options, { clock, random: systemRandom, signal, deadline })
    try {
      const part = { name: 'outbox', version: 1, tables: outboxTables } as const
      await ensureSchema(share.file, part, this.#options.schema, this.#deadlineOn(clock))
      await ensureBuckets(share.file, this.#options.buckets, this.#deadlineOn(clock))
    } catch (error) {
      await share.leave()
      throw error
    }
    this.#opened = { share, context }
    return this.#opened
  }

  async #close(): Promise<void> {
    this.#listeners.clear()
    this.#stopWatching()
    const opened = await this.#opening?.catch(() => null)
    this.#opened = null
    await opened?.share.leave()
  }

  /** All of the rows or none: whoever catches the error may commit what else is in the transaction. */
  #insertAll(appender: Appender, rows: readonly OutboxRow[]): void {
    if (rows.length < 2) return this.#insert(appender, rows)
    appender.of('SAVEPOINT holdfast_append').run()
    try {
      this.#insert(appender, rows)
    } catch (error) {
      undo(appender)
      throw error
    }
    appender.of('RELEASE holdfast_append').run()
  }

  #insert(appender: Appender, rows: readonly OutboxRow[]): void {
    for (const { envelope } of rows) {
      const bad = badId(envelope.id)
      if (bad !== null) throw new PublishRefusedError('rejected', bad)
    }
    const append = appender.of(sql.append)
    for (const { envelope, hash, keyHash } of rows) {
      const { to, id, timeMs, deliverAtMs } = envelope
      const key = storedBytes(envelope.key)
      const body = storedBytes(envelope.body)
      const bucket = (hash >>> 0) % this.#options.buckets
      const topic = to.kind === 'reply' ? to.address : to.topic
      const meta = this.#rows.wholeMeta(envelope)
      if (deliverAtMs === null) append.run(bucket, keyHash, topic, id, timeMs, key, meta, body)
      else {
        const schedule = appender.of(sql.schedule)
        schedule.run(deliverAtMs, bucket, keyHash, topic, id, timeMs, key, meta, body)
      }
    }
  }

  #stored(row: OutboxRowRead): StoredRow {
    let to = this.#topics.get(row.topic)
    if (to === undefined) {
      to = Object.freeze({ kind: 'topic', topic: row.topic })
      this.#topics.set(row.topic, to)
    }
    const envelope = this.#rows.envelope(row, to, null) as StoredRow['envelope']
    const { id, bucket, key_hash: keyHash } = row
    return { id, messageId: envelope.id, bucket, keyHash, envelope }
  }

  #watch(): () => void {
    const { share, context } = this.#here()
    const tell = (): void => {
      for (const listener of this.#listeners) listener()
    }
    const stopListening = share.file.nudges.on(OUTBOX_SCOPE, tell)
    const watch = new Watch(share.file, context.clock, this.#options.pollMs, tell)
    return () => {
      stopListening()
      watch.stop()
    }
  }

  #stopWatching(): void {
    this.#watching?.()
    this.#watching = null
  }

  async #write<T>(work: (db: Prepared) => T): Promise<T> {
    return this.#here().share.file.writer.write(this.#deadline(), work)
  }

  #read<T>(work: (file: SqliteFile) => T): T {
    const { file } = this.#here().share
    try {
      return work(file)
    } catch (error) {
      throw storageError(error, file.path, 'reading the outbox')
    }
  }

  #deadline(): Deadline {
    return this.#deadlineOn(this.#here().context.clock)
  }

  #deadlineOn(clock: StoreContext['clock']): Deadline {
    return clock.now() + this.#options.busyMs
  }

  #here(): Opened {
    if (this.#opened === null) throw new ClosedError('outbox')
    return this.#opened
  }
}

function undo(appender: Appender): void {
  try {
    appender.of('ROLLBACK TO holdfast_append').run()
    appender.of('RELEASE holdfast_append').run()
  } catch {
    // SQLite has rolled the whole transaction back by itself.
  }
}

type OutboxRowRead = EnvelopeRow & {
  readonly id: number
  readonly bucket: number
  readonly key_hash: number
  readonly topic: string
}

/** Sums what `work` did to the rows whose bucket is among the leases. */
function countFenced(
  leases: readonly Lease[],
  rows: readonly RowRef[],
  work: (row: RowRef, lease: Lease) => number,
): number {
  const byBucket = new Map(leases.map((lease) => [lease.bucket, lease]))
  let count = 0
  for (const row of rows) {
    const lease = byBucket.get(row.bucket)
    if (lease !== undefined) count += work(row, lease)
  }
  return count
}

/** Buckets that are still leased under the same owner and epoch. */
function stillHeld(db: Prepared, leases: readonly Lease[]): readonly number[] {
  const held = new Set<string>()
  for (const owner of new Set(leases.map((lease) => lease.owner))) {
    for (const { bucket, epoch } of myLeases(db, OUTBOX_SCOPE, owner)) {
      held.add(`${bucket} ${epoch} ${owner}`)
    }
  }
  const isHeld = (one: Lease): boolean => held.has(`${one.bucket} ${one.epoch} ${one.owner}`)
  return leases.filter(isHeld).map(({ bucket }) => bucket)
}
