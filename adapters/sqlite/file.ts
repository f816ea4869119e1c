import type { Clock, Random } from '../../src/contract/clock.ts'
import { StorageError } from '../../src/contract/errors.ts'
import type { Connection, Driver } from './driver.ts'
import { storageError, troubleOf } from './errors.ts'
import { Prepared } from './prepared.ts'
import { Nudges } from './nudges.ts'
import { Writer } from './writer.ts'

/** What opening a file needs. */
export interface OpenFile {
  readonly path: string
  readonly driver: Driver
  readonly clock: Clock
  readonly random: Random
}

/**
 * A database file as this process has it: one connection that writes, one that reads, shared by all
 * that opened it. Reads see only what is committed, and are single statements, so that no read
 * transaction is left open and the WAL can always be checkpointed.
 */
export class SqliteFile {
  readonly path: string
  readonly driver: Driver
  readonly reader: Prepared
  readonly writer: Writer
  readonly nudges: Nudges = new Nudges()
  readonly #writing: Prepared

  private constructor(open: OpenFile, writing: Prepared, reader: Prepared) {
    this.path = open.path
    this.driver = open.driver
    this.reader = reader
    this.#writing = writing
    this.writer = new Writer({
      file: open.path,
      db: writing,
      clock: open.clock,
      random: open.random,
    })
  }

  /**
   * Opens both connections, WAL and `synchronous = FULL` verified by reading them back. Throws a
   * `StorageError`; a busy one is worth trying again.
   */
  static open(open: OpenFile): SqliteFile {
    const opened: Connection[] = []
    try {
      const [writing, reader] = [connect(open, opened), connect(open, opened)]
      reader.exec('PRAGMA query_only = ON')
      return new SqliteFile(open, writing, reader)
    } catch (error) {
      for (const connection of opened) connection.close()
      throw storageError(error, open.path, 'opening')
    }
  }

  /** Changes with every commit of another connection; a hint that there may be something to read. */
  dataVersion(): number {
    return this.reader.get('PRAGMA data_version')?.['data_version'] as number
  }

  /** The two settings durability depends on, as the writing connection has them now. */
  durability(): { readonly journalMode: string; readonly synchronous: number } {
    return durabilityOf(this.#writing)
  }

  /** Ends the writer, folds the WAL into the file when nobody else uses it, closes both connections. */
  async close(): Promise<void> {
    await this.writer.close()
    this.reader.close()
    try {
      this.#writing.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch (error) {
      // Somebody else reads or writes: the last one to leave does it.
      if (troubleOf(error) === null) throw error
    }
    this.#writing.close()
  }
}

function connect({ path, driver }: OpenFile, opened: Connection[]): Prepared {
  const connection = driver.connect(path)
  opened.push(connection)
  // Before anything that could wait: only the clock may wait here.
  connection.exec('PRAGMA busy_timeout = 0')
  connection.exec('PRAGMA journal_mode = WAL')
  connection.exec('PRAGMA synchronous = FULL')
  // Where fsync does not reach the platters (macOS), this one does; elsewhere it changes nothing.
  connection.exec('PRAGMA fullfsync = ON')
  const db = new Prepared(connection)
  const { journalMode, synchronous } = durabilityOf(db)
  if (journalMode !== 'wal' || synchronous < 2) throw weak(path, journalMode, synchronous)
  return db
}

function durabilityOf(db: Prepared): { journalMode: string; synchronous: number } {
  return {
    journalMode: db.get('PRAGMA journal_mode')?.['journal_mode'] as string,
    synchronous: db.get('PRAGMA synchronous')?.['synchronous'] as number,
  }
}

function weak(path: string, journalMode: string, synchronous: number): StorageError {
  return new StorageError(
    'storage',
    `${path} would not survive a power loss: journal_mode is ${journalMode} (needs wal), synchronous is ${synchronous} (needs 2); a file on a local disk has both`,
  )
}
