import { realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { vi } from 'vitest'

import type { Connection } from '../../../adapters/sqlite/driver.ts'
import { SqliteFile } from '../../../adapters/sqlite/file.ts'
import { overlaid } from '../../conformance/overlay.ts'

const LAST_ROW = 'SELECT coalesce(max(id), 0) AS last FROM holdfast_message'
/** Messages of a topic that were not there before, whichever queues they are in. */
const NEW_ROWS = `SELECT count(DISTINCT message_id) AS stored, max(id) AS last FROM holdfast_message
  WHERE id > ? AND queue IN (SELECT id FROM holdfast_queue WHERE topic = ?)`

const byPath = new Map<string, LostAnswers>()
const { open } = SqliteFile

/**
 * A file whose disk fails at the worst moment: the COMMIT that stores certain messages takes place, and
 * its answer is an I/O error. Made before the file is opened; sits between the driver and the adapter.
 */
export class LostAnswers {
  readonly #wanted = new Map<string, { after: number; left: number }>()

  constructor(file: string) {
    byPath.set(join(realpathSync(dirname(file)), basename(file)), this)
    vi.spyOn(SqliteFile, 'open').mockImplementation((opening) => {
      const { path, driver } = opening
      const lost = byPath.get(path)
      if (lost === undefined) return open.call(SqliteFile, opening)
      const connect = (at: string): Connection => lost.#around(driver.connect(at))
      return open.call(SqliteFile, { ...opening, driver: { name: driver.name, connect } })
    })
  }

  /** For the next `count` messages to the topic, and with them for whatever is committed together. */
  want(connection: Connection, topic: string, count: number): void {
    const after = connection.prepare(LAST_ROW).get()?.['last'] as number
    this.#wanted.set(topic, { after, left: count })
  }

  #around(connection: Connection): Connection {
    return {
      exec: (sql) => connection.exec(sql),
      close: () => connection.close(),
      prepare: (sql, exact) => {
        const statement = connection.prepare(sql, exact)
        if (sql !== 'COMMIT') return statement
        return overlaid(statement, {
          run: (...params) => {
            const isLost = this.#stores(connection)
            const result = statement.run(...params)
            if (isLost) throw ioError()
            return result
          },
        })
      },
    }
  }

  #stores(connection: Connection): boolean {
    let any = false
    for (const [topic, wanted] of this.#wanted) {
      const rows = connection.prepare(NEW_ROWS).get(wanted.after, topic)
      const stored = rows?.['stored'] as number
      if (stored === 0) continue
      any = true
      wanted.after = rows?.['last'] as number
      wanted.left -= stored
      if (wanted.left <= 0) this.#wanted.delete(topic)
    }
    return any
  }
}

/** As either driver words it. */
function ioError(): Error {
  const said = { code: 'SQLITE_IOERR_FSYNC', errcode: 1_034 }
  return Object.assign(new Error('disk I/O error, on purpose'), said)
}
