import { type CrashPoints, noCrashes } from '../../src/contract/crash-points.ts'
import { ClosedError, OptionError } from '../../src/contract/errors.ts'
import { integerOption } from '../../src/contract/option.ts'
import type {
  AttemptStore,
  ClaimResult,
  Identified,
  InboxStore,
  StoreContext,
  WorkResult,
} from '../../src/contract/store.ts'
import {
  type AttemptRow,
  ATTEMPTS,
  claimBatch,
  claimEach,
  INBOX,
  type InboxRow,
  rowName,
} from './claim.ts'
import type { MemoryDatabase } from './database.ts'
import { databaseOf, type MemoryStoreOptions } from './outbox.ts'
import type { MemoryTransaction } from './transaction.ts'

/** What `memoryInbox()` takes. */
export interface MemoryInboxOptions extends MemoryStoreOptions {
  /** How long handled messages are remembered, in milliseconds. Default 7 days. */
  readonly retentionMs?: number
}

const WEEK_MS = 7 * 24 * 3_600_000
const PRUNE_EVERY_MS = 60_000

/** The inbox of a `MemoryDatabase`, as one process has it. Old rows are removed while it is used. */
export class MemoryInbox implements InboxStore<MemoryTransaction> {
  readonly database: MemoryDatabase
  readonly attempts: AttemptStore
  readonly #running = new Set<MemoryTransaction>()
  readonly #retentionMs: number
  #prunedAt = Number.NEGATIVE_INFINITY
  #crash: CrashPoints = noCrashes
  #state: 'new' | 'open' | 'closed' = 'new'

  constructor(options: MemoryInboxOptions = {}) {
    this.database = databaseOf('memoryInbox', options, ['retentionMs'])
    this.#retentionMs = integerOption('retentionMs', options.retentionMs, WEEK_MS, { min: 1_000 })
    this.attempts = {
      started: (consumer, id) => this.#started(consumer, id),
      finished: (consumer, id) => this.#finished(consumer, id),
    }
  }

  open(context: StoreContext): Promise<void> {
    return this.#step(() => {
      this.database.adopt(context.clock)
      this.#crash = context.crash
      this.#state = 'open'
    })
  }

  async run(
    messages: readonly Identified[],
    mode: 'each' | 'batch',
    work: (tx: MemoryTransaction, fresh: readonly number[]) => Promise<readonly WorkResult[]>,
  ): Promise<readonly ClaimResult[]> {
    return this.#transaction(async (tx) => {
      this.#crash.at('after_begin')
      const claim = mode === 'each' ? claimEach : claimBatch
      const results = await claim(tx, messages, checked(work), this.#crash)
      if (results.includes('committed')) await this.#commit(tx)
      this.#pruneNowAndThen()
      return results
    })
  }

  async #commit(tx: MemoryTransaction): Promise<void> {
    this.#crash.at('after_effect')
    await tx.commit()
  }

  /** Rejects with `storage-busy` when another transaction holds one of them for too long. */
  keep(consumer: string, ids: readonly string[]): Promise<void> {
    return this.#transaction(async (tx) => {
      for (const id of ids) {
        const name = rowName(consumer, id)
        const row: InboxRow = { consumer, id, atMs: this.database.nowMs(), kept: true }
        if (await tx.insert(INBOX, name, row)) continue
        tx.write(INBOX, name, { ...(tx.read(INBOX, name) as InboxRow), kept: true })
      }
      await tx.commit()
    })
  }

  prune(olderThanMs: number, limit: number): Promise<number> {
    return this.#step(() => this.#prune(olderThanMs, limit))
  }

  /** Ends with transactions that wait for a row; those whose work runs go on to their end. */
  close(): Promise<void> {
    this.#state = 'closed'
    for (const tx of this.#running) this.database.locks.giveUp(tx)
    return Promise.resolve()
  }

  async #transaction<T>(work: (tx: MemoryTransaction) => Promise<T>): Promise<T> {
    this.#assertNotClosed()
    const tx = this.database.begin()
    this.#running.add(tx)
    try {
      return await work(tx)
    } finally {
      await tx.rollback()
      this.#running.delete(tx)
    }
  }

  /** While the inbox is used, so that it needs no timer. */
  #pruneNowAndThen(): void {
    const now = this.database.clock.now()
    if (now - this.#prunedAt < PRUNE_EVERY_MS) return
    this.#prunedAt = now
    this.#prune(this.#retentionMs, Number.POSITIVE_INFINITY)
  }

  #prune(olderThanMs: number, limit: number): number {
    const before = this.database.nowMs() - olderThanMs
    this.#drop(ATTEMPTS, limit, (row) => (row as AttemptRow).atMs < before)
    return this.#drop(INBOX, limit, (row) => {
      const { kept, atMs } = row as InboxRow
      return !kept && atMs < before
    })
  }

  #drop(table: string, limit: number, isOld: (row: unknown) => boolean): number {
    const { tables } = this.database
    const old: string[] = []
    for (const [name, row] of tables.entries(table)) {
      if (old.length >= limit) break
      if (isOld(row)) old.push(name)
    }
    for (const name of old) tables.delete(table, name)
    return old.length
  }

  #started(consumer: string, id: string): Promise<number> {
    return this.#step(({ tables }) => {
      const name = rowName(consumer, id)
      const before = tables.get(ATTEMPTS, name) as AttemptRow | undefined
      const started = (before?.started ?? 0) + 1
      const row: AttemptRow = { started, atMs: this.database.nowMs() }
      tables.set(ATTEMPTS, name, row)
      return started
    })
  }

  #finished(consumer: string, id: string): Promise<void> {
    return this.#step(({ tables }) => tables.delete(ATTEMPTS, rowName(consumer, id)))
  }

  async #step<T>(work: (database: MemoryDatabase) => T): Promise<T> {
    this.#assertNotClosed()
    await this.database.turn()
    this.database.assertReachable()
    return work(this.database)
  }

  #assertNotClosed(): void {
    if (this.#state === 'closed') throw new ClosedError('memory inbox')
  }
}

/** Makes an inbox; several on one database are as several processes. */
export function memoryInbox(options: MemoryInboxOptions = {}): MemoryInbox {
  return new MemoryInbox(options)
}

type Work = Parameters<MemoryInbox['run']>[2]

/** The work, held to one result for each message. */
function checked(work: Work): Work {
  return async (tx, fresh) => {
    const results = await work(tx, fresh)
    if (Array.isArray(results) && results.length === fresh.length) return results
    throw new OptionError('work', results, `${fresh.length} results, one for each message`)
  }
}
