import { systemClock, type Clock } from '../../src/contract/clock.ts'
import { ClosedError, HoldfastError, StorageError } from '../../src/contract/errors.ts'
import { integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'
import { DatabaseFaults } from './database-faults.ts'
import { Locks } from './locks.ts'
import { OutboxTable } from './outbox-table.ts'
import { Tables } from './tables.ts'
import { MemoryTransaction } from './transaction.ts'

/** What `memoryDatabase()` takes. */
export interface MemoryDatabaseOptions {
  /** The database's own clock; default: that of the first store that opens on it, else the machine's. */
  readonly clock?: Clock
  /** How long a transaction waits for a row another one has changed, in milliseconds. Default 1 000. */
  readonly lockWaitMs?: number
  /** Buckets of the outbox, which relays share out. Default 64. */
  readonly buckets?: number
}

/**
 * A transactional database in this process: tables of your own, an outbox and an inbox that share
 * transactions with them. What is committed stays as long as the object.
 */
export class MemoryDatabase {
  readonly lockWaitMs: number
  readonly tables: Tables = new Tables()
  readonly locks: Locks = new Locks()
  readonly outbox: OutboxTable
  /** Makes go wrong what goes wrong with databases. */
  readonly faults: DatabaseFaults
  readonly #open = new Set<MemoryTransaction>()
  #clock: Clock
  #clockIsGiven: boolean
  #connected = true
  #closed = false
  #lastId = 0

  constructor(options: MemoryDatabaseOptions = {}) {
    refuseUnknownOptions('memoryDatabase', options, ['clock', 'lockWaitMs', 'buckets'])
    this.lockWaitMs = integerOption('lockWaitMs', options.lockWaitMs, 1_000, { min: 0 })
    const buckets = integerOption('buckets', options.buckets, 64, { min: 1, max: 65_536 })
    this.#clock = options.clock ?? systemClock
    this.#clockIsGiven = options.clock !== undefined
    this.outbox = new OutboxTable(buckets, this)
    this.faults = new DatabaseFaults(this)
  }

  get clock(): Clock {
    return this.#clock
  }

  /** Unix milliseconds on the database's clock. */
  nowMs(): number {
    return this.#clock.wallMs()
  }

  /** Takes over the clock of a store, unless there is one already. */
  adopt(clock: Clock): void {
    if (this.#clockIsGiven) return
    this.#clock = clock
    this.#clockIsGiven = true
  }

  /** Never used twice, also when what used it is rolled back. */
  nextId(): number {
    return ++this.#lastId
  }

  /** Runs `work` in a transaction: commits when it resolves, rolls back when it rejects. */
  async transaction<T>(work: (tx: MemoryTransaction) => Promise<T> | T): Promise<T> {
    const tx = this.begin()
    try {
      const result = await work(tx)
      await tx.commit()
      return result
    } catch (error) {
      await tx.rollback()
      throw error
    }
  }

  /** Opens a transaction that its user ends. */
  begin(): MemoryTransaction {
    this.assertReachable()
    const tx = new MemoryTransaction(this)
    this.#open.add(tx)
    return tx
  }

  /** The committed row, or undefined. */
  get(table: string, key: string): unknown {
    return structuredClone(this.tables.get(table, key))
  }

  /** All committed rows of the table, as `[key, row]`. */
  rows(table: string): readonly (readonly [key: string, row: unknown])[] {
    return structuredClone([...this.tables.entries(table)])
  }

  /** Rolls back what is open. Idempotent. */
  close(): Promise<void> {
    this.#closed = true
    for (const tx of [...this.#open]) tx.break()
    return Promise.resolve()
  }

  /** Breaks open transactions; nothing works until `reconnect`. */
  disconnect(): void {
    this.#connected = false
    for (const tx of [...this.#open]) tx.break()
  }

  /** Ends `disconnect`; broken transactions stay broken. */
  reconnect(): void {
    this.#connected = true
  }

  /** Throws when the database cannot be reached or was closed. */
  assertReachable(): void {
    if (this.#closed) throw new ClosedError('memory database')
    if (this.#connected) return
    throw new StorageError('unavailable', 'the database cannot be reached; try again later', {
      transient: true,
    })
  }

  /** The transaction, or an error that says what was passed instead. */
  checked(tx: unknown): MemoryTransaction {
    if (tx instanceof MemoryTransaction) {
      tx.assertOpen()
      if (tx.database === this) return tx
    }
    const what =
      tx instanceof MemoryDatabase
        ? 'the database itself'
        : tx instanceof MemoryTransaction
          ? 'a transaction of another database'
          : 'something else'
    throw new HoldfastError(
      'not-a-transaction',
      `a transaction of this database is needed, got ${what}: pass the tx of database.transaction(async (tx) => …)`,
    )
  }

  /** One round trip, as a call to a database takes. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.#clock.defer(resolve))
  }

  ended(tx: MemoryTransaction): void {
    this.#open.delete(tx)
  }
}

/** Makes a database in this process. */
export function memoryDatabase(options: MemoryDatabaseOptions = {}): MemoryDatabase {
  return new MemoryDatabase(options)
}
