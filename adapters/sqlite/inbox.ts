import { systemRandom } from '../../src/contract/clock.ts'
import { ClosedError, type HoldfastError } from '../../src/contract/errors.ts'
import { integerOption } from '../../src/contract/option.ts'
import type {
  AttemptStore,
  ClaimResult,
  Identified,
  InboxStore,
  StoreContext,
} from '../../src/contract/store.ts'
import { inboxStatements } from '../sql/inbox.ts'
import { inboxTables } from '../sql/schema.ts'
import { dialect } from './dialect.ts'
import { ensureSchema } from './ensure-schema.ts'
import { InboxRun, type Work } from './inbox-run.ts'
import { resolveFile, type FileOptions, type ResolvedFile } from './options.ts'
import type { Prepared } from './prepared.ts'
import { shareFile, type FileShare } from './share.ts'
import type { SqliteTransaction } from './transaction.ts'

/** Options of `sqliteInbox`. */
export interface SqliteInboxOptions extends FileOptions {
  /** After this long a transaction takes no further message: the rest goes into the next one. Default 200. */
  readonly maxTransactionMs?: number
  /** How long handled messages are remembered: longer than any redelivery or replay. Default 7 days. */
  readonly retentionMs?: number
}

interface Resolved extends ResolvedFile {
  readonly maxTransactionMs: number
  readonly retentionMs: number
}

/** What there is while the store is open. */
interface Opened {
  readonly share: FileShare
  readonly context: StoreContext
}

const WEEK_MS = 7 * 24 * 3_600_000
const PRUNE_EVERY_MS = 60_000
const PRUNED_AT_ONCE = 1_000

const sql = inboxStatements(dialect)

/**
 * The inbox in a SQLite file: inbox rows, effects made through `context.tx`, outbox rows appended to
 * it and, where the broker is on the same file, the acknowledgement commit together. Handlers run one
 * at a time. Old rows are removed while it is used. Throws an `OptionError`; does no I/O before `open`.
 */
export function sqliteInbox(options: SqliteInboxOptions): InboxStore<SqliteTransaction> {
  return new SqliteInbox({
    ...resolveFile('sqliteInbox', options, ['maxTransactionMs', 'retentionMs']),
    maxTransactionMs: integerOption('maxTransactionMs', options.maxTransactionMs, 200, { min: 1 }),
    retentionMs: integerOption('retentionMs', options.retentionMs, WEEK_MS, { min: 1_000 }),
  })
}

class SqliteInbox implements InboxStore<SqliteTransaction> {
  readonly attempts: AttemptStore
  readonly #options: Resolved
  #opening: Promise<Opened> | null = null
  #opened: Opened | null = null
  #closing: Promise<void> | null = null
  #prunedAt = -Infinity

  constructor(options: Resolved) {
    this.#options = options
    this.attempts = {
      started: (consumer, id) =>
        this.#write((db) => db.get(sql.started, consumer, id)?.['started'] as number),
      finished: (consumer, id) => this.#write((db) => void db.run(sql.finished, consumer, id)),
    }
  }

  async open(context: StoreContext): Promise<void> {
    if (this.#closing !== null) throw new ClosedError('inbox')
    this.#opening ??= this.#open(context)
    try {
      await this.#opening
    } catch (error) {
      this.#opening = null
      throw error
    }
  }

  async run(
    messages: readonly Identified[],
    mode: 'each' | 'batch',
    work: Work,
  ): Promise<readonly ClaimResult[]> {
    const { share, context } = this.#here()
    const { clock, crash, emit } = context
    const { busyMs, maxTransactionMs } = this.#options
    const options = { file: share.file, clock, crash, emit, busyMs, maxTransactionMs }
    const run = new InboxRun(options, messages, work)
    const results = await (mode === 'each' ? run.each() : run.batch())
    this.#pruneNowAndThen(context)
    return results
  }

  keep(consumer: string, ids: readonly string[]): Promise<void> {
    return this.#write((db) => {
      for (const id of ids) db.run(sql.keep, consumer, id)
    })
  }

  prune(olderThanMs: number, limit: number): Promise<number> {
    return this.#write((db) => {
      db.run(sql.pruneAttempts, olderThanMs, limit)
      return db.run(sql.prune, olderThanMs, limit).changes
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #open(context: StoreContext): Promise<Opened> {
    const { clock, signal } = context
    const { busyMs, schema } = this.#options
    const opening = { clock, random: systemRandom, signal, deadline: clock.now() + busyMs }
    const share = await shareFile(this.#options, opening)
    try {
      const part = { name: 'inbox', version: 1, tables: inboxTables } as const
      await ensureSchema(share.file, part, schema, clock.now() + busyMs)
    } catch (error) {
      await share.leave()
      throw error
    }
    this.#opened = { share, context }
    return this.#opened
  }

  async #close(): Promise<void> {
    const opened = await this.#opening?.catch(() => null)
    this.#opened = null
    await opened?.share.leave()
  }

  /** While the inbox is used, so that it needs no timer that would keep the process alive. */
  #pruneNowAndThen({ clock, emit }: StoreContext): void {
    if (clock.now() - this.#prunedAt < PRUNE_EVERY_MS) return
    this.#prunedAt = clock.now()
    this.#pruneAll().catch((error: HoldfastError) => {
      if (error.code === 'closed') return
      const message = `old inbox rows could not be removed: ${error.message}`
      emit({ type: 'warning', code: 'sqlite.prune', message })
    })
  }

  /** In batches with turns between them, so that nobody waits for long. */
  async #pruneAll(): Promise<void> {
    while ((await this.prune(this.#options.retentionMs, PRUNED_AT_ONCE)) === PRUNED_AT_ONCE);
  }

  async #write<T>(work: (db: Prepared) => T): Promise<T> {
    const { share, context } = this.#here()
    return share.file.writer.write(context.clock.now() + this.#options.busyMs, work)
  }

  #here(): Opened {
    if (this.#opened === null) throw new ClosedError('inbox')
    return this.#opened
  }
}
