import { HoldfastError, StorageError } from '../../src/contract/errors.ts'
import { commitUnknown } from './database-faults.ts'
import type { MemoryDatabase } from './database.ts'
import { Layer, lockName } from './tables.ts'

/** Told before and after a commit; the outboxes that rows were appended to. */
export interface CommitListener {
  beforeCommit(): void
  afterCommit(): void
}

/**
 * An open transaction of a `MemoryDatabase`. It sees what is committed and what it changed itself;
 * others see its changes after the commit. A changed row is locked: who wants it too waits, and gets
 * a `StorageError` of code `storage-busy` after the database's `lockWaitMs`. Values are copied on the
 * way in and out, so that a rollback undoes everything.
 */
export class MemoryTransaction {
  readonly #database: MemoryDatabase
  readonly #layers: Layer[] = [new Layer()]
  readonly #listeners = new Set<CommitListener>()
  #state: 'open' | 'ending' | 'ended' | 'broken' = 'open'

  constructor(database: MemoryDatabase) {
    this.#database = database
  }

  get database(): MemoryDatabase {
    return this.#database
  }

  get open(): boolean {
    return this.#state === 'open'
  }

  /** The row, or undefined. */
  get(table: string, key: string): unknown {
    return structuredClone(this.read(table, key))
  }

  /** All rows of the table, as `[key, row]`. */
  rows(table: string): readonly (readonly [key: string, row: unknown])[] {
    const keys = new Set<string>()
    for (const [key] of this.#database.tables.entries(table)) keys.add(key)
    for (const { changes } of this.#layers) {
      for (const change of changes.values()) if (change.table === table) keys.add(change.key)
    }
    const rows: [string, unknown][] = []
    for (const key of keys) {
      const row = this.get(table, key)
      if (row !== undefined) rows.push([key, row])
    }
    return rows
  }

  /** Writes the row, new or not. */
  async set(table: string, key: string, row: unknown): Promise<void> {
    await this.#lock(table, key)
    this.write(table, key, structuredClone(row))
  }

  /** Writes the row if there is none of that key; false when there is. */
  async insert(table: string, key: string, row: unknown): Promise<boolean> {
    await this.#lock(table, key)
    if (this.read(table, key) !== undefined) return false
    this.write(table, key, structuredClone(row))
    return true
  }

  /** Adds a row under a key of the database's own, which is returned; never waits. */
  add(table: string, row: unknown): string {
    this.assertOpen()
    const key = `#${this.#database.nextId()}`
    this.write(table, key, structuredClone(row))
    return key
  }

  /** Removes the row; false when there was none. */
  async delete(table: string, key: string): Promise<boolean> {
    await this.#lock(table, key)
    if (this.read(table, key) === undefined) return false
    this.#top.note({ table, key, value: null })
    return true
  }

  /** Runs `work` inside a savepoint: when it rejects, its changes alone are undone. */
  async savepoint<T>(work: () => Promise<T>): Promise<T> {
    this.begin()
    try {
      const result = await work()
      this.keep()
      return result
    } catch (error) {
      this.undo()
      throw error
    }
  }

  /** Resolves when all of it is visible to others; rejects when none of it is, or with `commit-unknown`. */
  async commit(): Promise<void> {
    this.assertOpen()
    this.#state = 'ending'
    try {
      for (const listener of this.#listeners) listener.beforeCommit()
      await this.#database.turn()
      // Sent and not answered: whoever loses the connection here cannot know.
      if (this.#state !== 'ending') throw commitUnknown('the connection was lost on the way')
      this.#database.faults.beforeCommit()
      this.#apply()
    } catch (error) {
      this.#end()
      throw error
    }
    this.#database.faults.afterCommit()
    for (const listener of this.#listeners) listener.afterCommit()
  }

  /** Undoes everything. Does nothing when the transaction has ended. */
  rollback(): Promise<void> {
    if (this.#state === 'open') this.#end()
    return Promise.resolve()
  }

  /** The connection is gone: everything is undone, and its user hears of it at the next step. */
  break(): void {
    if (this.#state === 'ended') return
    this.#end()
    this.#state = 'broken'
  }

  /** Throws unless something can be done with it. */
  assertOpen(): void {
    this.#breakIfLost()
    if (this.#state === 'open') return
    throw new HoldfastError(
      'not-a-transaction',
      'the transaction has ended; use it only inside the work it was opened for',
    )
  }

  #breakIfLost(): void {
    if (this.#state !== 'broken') return
    throw new StorageError('unavailable', 'the connection to the database was lost', {
      transient: true,
    })
  }

  /** The row without a copy. */
  read(table: string, key: string): unknown {
    this.assertOpen()
    for (let index = this.#layers.length - 1; index >= 0; index--) {
      const change = this.#layers[index]?.find(table, key)
      if (change !== undefined) return change.value?.row
    }
    return this.#database.tables.get(table, key)
  }

  /** Writes without a copy; the lock must be held. */
  write(table: string, key: string, row: unknown): void {
    this.#top.note({ table, key, value: { row } })
  }

  /** Takes the row's lock; false when it was not free in time. */
  async tryLock(table: string, key: string): Promise<boolean> {
    this.assertOpen()
    const name = lockName(table, key)
    if (this.#layers.some((layer) => layer.locks.has(name))) return true
    const { locks, clock, lockWaitMs } = this.#database
    const got = await locks.take(name, this, clock, lockWaitMs)
    if (!got) {
      this.assertOpen()
      return false
    }
    if (this.#state === 'open') this.#top.locks.add(name)
    else locks.release(name)
    this.assertOpen()
    return true
  }

  async #lock(table: string, key: string): Promise<void> {
    if (await this.tryLock(table, key)) return
    throw new StorageError(
      'storage-busy',
      `row "${key}" of table "${table}" is locked by another transaction for longer than ${this.#database.lockWaitMs} ms`,
      { transient: true },
    )
  }

  /** Opens a savepoint; `keep` or `undo` ends it. */
  begin(): void {
    this.assertOpen()
    this.#layers.push(new Layer())
  }

  keep(): void {
    this.assertOpen()
    const above = this.#layers.pop() as Layer
    this.#top.absorb(above)
  }

  undo(): void {
    if (this.#state !== 'open') return
    this.#release(this.#layers.pop() as Layer)
  }

  /** Done with the commit, undone with the savepoint it belongs to. */
  atCommit(act: () => void, listener: CommitListener): void {
    this.assertOpen()
    this.#top.onCommit.push(act)
    this.#listeners.add(listener)
  }

  get #top(): Layer {
    return this.#layers.at(-1) as Layer
  }

  #apply(): void {
    for (const layer of this.#layers) layer.applyTo(this.#database.tables)
    this.#end()
  }

  #end(): void {
    this.#state = 'ended'
    this.#database.locks.giveUp(this)
    for (const layer of this.#layers) this.#release(layer)
    this.#layers.length = 1
    this.#layers[0] = new Layer()
    this.#database.ended(this)
  }

  #release(layer: Layer): void {
    for (const name of layer.locks) this.#database.locks.release(name)
  }
}
