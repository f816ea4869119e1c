import { existsSync } from 'node:fs'

import { BILLING, Orders } from './orders.ts'
import { files } from './settings.ts'
import { count, openPlain, type PlainDatabase } from './sql.ts'

/** Rows of the billing group's queue: kind 0 is what waits, kind 1 are the dead letters. */
const ROWS = `
  FROM holdfast_message m JOIN holdfast_queue q ON q.id = m.queue
  WHERE q.topic = '${Orders.name}' AND q.consumers = '${BILLING}'`

const DEAD_LETTERS = `
  SELECT json_extract(CAST(m.body AS TEXT), '$.id') AS id, (
    SELECT json_extract(header.value, '$[1]') FROM json_each(m.meta, '$.h') AS header
    WHERE json_extract(header.value, '$[0]') = 'holdfast-dead-reason'
  ) AS reason
  ${ROWS} AND q.kind = 1`

/** The embedded broker's file, read by plain SQL. */
export class EmbeddedBroker {
  readonly #database: PlainDatabase

  private constructor(database: PlainDatabase) {
    this.#database = database
  }

  /** Null when there is no such file in the folder: the run used another broker. */
  static async open(dir: string): Promise<EmbeddedBroker | null> {
    const file = files.broker(dir)
    if (!existsSync(file)) return null
    return new EmbeddedBroker(await openPlain(file, { readOnly: true, busyMs: 5_000 }))
  }

  /** Messages that are not finished. */
  waiting(): number {
    return count(this.#database, `SELECT count(*) ${ROWS} AND q.kind = 0`)
  }

  /** Order id → reason. */
  deadLetters(): ReadonlyMap<string, string> {
    const rows = this.#database.all(DEAD_LETTERS)
    return new Map(rows.map(({ id, reason }) => [String(id), String(reason)]))
  }

  close(): void {
    this.#database.close()
  }
}
