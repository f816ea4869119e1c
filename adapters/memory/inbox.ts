import { type CrashPoints, noCrashes } from '../../src/contract/crash-points.ts'
import { ClosedError, OptionError } from '../../src/contract/errors.ts'
import type {
  AttemptStore,
  ClaimResult,
  Identified,
  InboxStore,
  StoreContext,
  WorkResult,
} from '../../src/contract/store.ts'
import { claimBatch, claimEach, INBOX, type InboxRow, rowName } from './claim.ts'
import type { MemoryDatabase } from './database.ts'
import { databaseOf, type MemoryStoreOptions } from './outbox.ts'
import type { MemoryTransaction } from './transaction.ts'

const ATTEMPTS = 'holdfast_attempts'

/** The inbox of a `MemoryDatabase`, as one process has it. */
export class MemoryInbox implements InboxStore<MemoryTransaction> {
  readonly database: MemoryDatabase
  readonly attempts: AttemptStore
  readonly #running = new Set<MemoryTransaction>()
  #crash: CrashPoints = noCrashes
  #state: 'new' | 'open' | 'closed' = 'new'

  constructor(options: MemoryStoreOptions = {}) {
    this.database = databaseOf('memoryInbox', options)
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
    this.#assertNotClosed()
    const tx = this.database.begin()
    this.#running.add(tx)
    try {
      this.#crash.at('after_begin')
      const claim = mode === 'each' ? claimEach : claimBatch
      const results = await claim(tx, messages, checked(work), this.#crash)
      if (results.includes('committed')) await this.#commit(tx)
      return results
    } finally {
      await tx.rollback()
      this.#running.delete(tx)
    }
  }

  async #commit(tx: MemoryTransaction): Promise<void> {
    this.#crash.at('after_effect')
    await tx.commit()
  }

  keep(consumer: string, ids: readonly string[]): Promise<void> {
    return this.#step(({ tables }) => {
      for (const id of ids) {
        const name = rowName(consumer, id)
        const row = tables.get(INBOX, name) as InboxRow | undefined
        if (row !== undefined) tables.set(INBOX, name, { ...row, kept: true })
      }
    })
  }

  prune(olderThanMs: number, limit: number): Promise<number> {
    return this.#step(({ tables }) => {
      const before = this.database.nowMs() - olderThanMs
      const old: string[] = []
      for (const [name, value] of tables.entries(INBOX)) {
        if (old.length >= limit) break
        const row = value as InboxRow
        if (!row.kept && row.atMs < before) old.push(name)
      }
      for (const name of old) tables.delete(INBOX, name)
      return old.length
    })
  }

  /** Ends with transactions that wait for a row; those whose work runs go on to their end. */
  close(): Promise<void> {
    this.#state = 'closed'
    for (const tx of this.#running) this.database.locks.giveUp(tx)
    return Promise.resolve()
  }

  #started(consumer: string, id: string): Promise<number> {
    return this.#step(({ tables }) => {
      const name = rowName(consumer, id)
      const count = ((tables.get(ATTEMPTS, name) as number | undefined) ?? 0) + 1
      tables.set(ATTEMPTS, name, count)
      return count
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
export function memoryInbox(options: MemoryStoreOptions = {}): MemoryInbox {
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
