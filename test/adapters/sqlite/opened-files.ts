import { afterAll, afterEach } from 'vitest'

import type { Connection, Driver } from '../../../adapters/sqlite/driver.ts'
import {
  openDatabase,
  sqliteInbox,
  sqliteOutbox,
  type DatabaseOptions,
  type SqliteBrokerOptions,
  type SqliteDatabase,
  type SqliteInboxOptions,
  type SqliteOutboxOptions,
  type SqliteTransaction,
} from '../../../adapters/sqlite/index.ts'
import type { Broker, BrokerContext } from '../../../src/contract/broker.ts'
import type { InboxStore, StoreContext } from '../../../src/contract/store.ts'
import { availableDrivers, scratch } from './scratch.ts'
import { context, openBroker, soon } from './stage.ts'

/** The one that is used where it makes no difference. */
export const anyDriver = (await availableDrivers())[0] as Driver

/**
 * Files of one test file, and what its tests open on them: closed after each test, the last first;
 * removed after all of them. To be made once, at the top of the test file.
 */
export class OpenedFiles {
  readonly #folder = scratch()
  readonly #closing: (() => unknown)[] = []
  #count = 0

  constructor() {
    afterEach(async () => {
      for (const close of this.#closing.splice(0).toReversed()) await close()
    })
    afterAll(() => this.#folder.remove())
  }

  /** Path of a file that does not exist yet. */
  next(): string {
    return this.path(`${this.#count++}.db`)
  }

  path(name: string): string {
    return this.#folder.file(name)
  }

  /** Runs after the test. */
  afterwards(close: () => unknown): void {
    this.#closing.push(close)
  }

  async database(
    file: string,
    options: Omit<DatabaseOptions, 'file'> = {},
  ): Promise<SqliteDatabase> {
    const database = await openDatabase({ file, ...options })
    this.afterwards(() => database.close())
    return database
  }

  /** With the topic and the group of `stage.ts`; looks for what others publish often. */
  async broker(
    file: string,
    options: Omit<SqliteBrokerOptions, 'file'> = {},
    around?: BrokerContext,
  ): Promise<Broker> {
    const broker = await openBroker({ file, pollMs: 5, ...options }, around)
    this.afterwards(() => broker.close(soon()))
    return broker
  }

  async outbox(
    file: string,
    options: Omit<SqliteOutboxOptions, 'file'> = {},
    around: StoreContext = context(),
  ): Promise<ReturnType<typeof sqliteOutbox>> {
    const outbox = sqliteOutbox({ file, ...options })
    await outbox.open(around)
    this.afterwards(() => outbox.close())
    return outbox
  }

  async inbox(
    file: string,
    options: Omit<SqliteInboxOptions, 'file'> = {},
    around: StoreContext = context(),
  ): Promise<InboxStore<SqliteTransaction>> {
    const inbox = sqliteInbox({ file, ...options })
    await inbox.open(around)
    this.afterwards(() => inbox.close())
    return inbox
  }

  /** Does something to the file, as an operator would, behind the library's back. */
  exec(file: string, sql: string): void {
    const connection = anyDriver.connect(file)
    connection.exec(sql)
    connection.close()
  }

  /** Another program at the file, which knows nothing of the library. */
  outside(file: string): Connection {
    const connection = anyDriver.connect(file)
    this.afterwards(() => connection.close())
    return connection
  }
}
