import type { ReliablePublisher } from 'holdfast'
import { openDatabase, type SqliteDatabase, type SqliteTransaction } from 'holdfast/sqlite'

import type { History } from './history.ts'
import { Orders, type Order } from './orders.ts'
import { Pace } from './pace.ts'
import { parseOrder } from './parse-order.ts'
import { readLines, type Line } from './read-lines.ts'
import { files, type Settings } from './settings.ts'
import { REJECTIONS_KEPT } from './tables.ts'

/** Rejected lines are stored together with the next order, but at least every so many. */
const REJECTIONS_AT_ONCE = 500

interface Rejection {
  readonly line: number
  readonly reason: string
}

/**
 * Takes orders from the input. Each order, its message and the place up to which the input was read
 * are stored in one transaction: killed at any moment, the next run goes on exactly there.
 */
export class Intake {
  readonly #publisher: ReliablePublisher<SqliteTransaction>
  readonly #settings: Settings
  readonly #history: History
  readonly #pace: Pace
  #rejections: Rejection[] = []

  constructor(
    publisher: ReliablePublisher<SqliteTransaction>,
    settings: Settings,
    history: History,
  ) {
    this.#publisher = publisher
    this.#settings = settings
    this.#history = history
    this.#pace = new Pace(settings.ratePerSecond)
  }

  /** Resolves when the whole input was taken, or soon after the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { input, dir } = this.#settings
    const database = await openDatabase({ file: files.shop(dir) })
    try {
      const { from, linesBefore } = await startOf(database)
      let last: Line | null = null
      for await (const line of readLines(input.path, { from, linesBefore, to: input.bytes })) {
        if (signal.aborted) return
        last = line
        await this.#take(database, line, signal)
      }
      await this.#finish(database, last)
    } finally {
      await database.close()
    }
  }

  async #take(database: SqliteDatabase, line: Line, signal: AbortSignal): Promise<void> {
    const parsed = parseOrder(line, this.#settings.input.fields)
    switch (parsed.kind) {
      case 'blank':
        return
      case 'rejected':
        this.#rejections.push({ line: line.number, reason: parsed.reason })
        if (this.#rejections.length >= REJECTIONS_AT_ONCE)
          await this.#storeRejections(database, line)
        return
      case 'order':
        await this.#store(database, parsed.order, line)
        // Stopping is no error: the loop looks at the signal next.
        await this.#pace.wait(signal).catch(() => undefined)
    }
  }

  /** The promise starts here: the order and its message, both or neither. */
  async #store(database: SqliteDatabase, order: Order, line: Line): Promise<void> {
    const { id } = order
    this.#history.write('invoke', { op: 'order', id, line: order.line })
    const isNew = await database.transaction(async (tx) => {
      const stored = insertOrder(tx, order)
      if (stored) await this.#publisher.publishIn(tx, Orders, order)
      const duplicate = { line: line.number, reason: `duplicate id "${id}"` }
      const rejections = stored ? this.#rejections : [...this.#rejections, duplicate]
      saveProgress(tx, line, stored ? 1 : 0, rejections)
      return stored
    })
    this.#rejections = []
    this.#history.write(isNew ? 'ok' : 'fail', { op: 'order', id, line: order.line })
  }

  async #storeRejections(database: SqliteDatabase, line: Line): Promise<void> {
    await database.transaction((tx) => saveProgress(tx, line, 0, this.#rejections))
    this.#rejections = []
  }

  async #finish(database: SqliteDatabase, last: Line | null): Promise<void> {
    await database.transaction((tx) => {
      if (last !== null) saveProgress(tx, last, 0, this.#rejections)
      tx.run('UPDATE intake SET finished = 1')
    })
    this.#rejections = []
  }
}

async function startOf(database: SqliteDatabase): Promise<{ from: number; linesBefore: number }> {
  return database.transaction((tx) => {
    const row = tx.get('SELECT line, next_byte FROM intake') as { line: number; next_byte: number }
    return { from: row.next_byte, linesBefore: row.line }
  })
}

/** False when there is an order with this id already. */
function insertOrder(tx: SqliteTransaction, { id, customer, amount, line }: Order): boolean {
  const insert = 'INSERT INTO orders (id, customer, amount, line) VALUES (?, ?, ?, ?)'
  return tx.run(`${insert} ON CONFLICT (id) DO NOTHING`, id, customer, amount, line).changes > 0
}

function saveProgress(
  tx: SqliteTransaction,
  line: Line,
  accepted: number,
  rejections: readonly Rejection[],
): void {
  const { rejected } = tx.get('SELECT rejected FROM intake') as { rejected: number }
  for (const one of rejections.slice(0, Math.max(0, REJECTIONS_KEPT - rejected))) {
    tx.run('INSERT INTO rejections (line, reason) VALUES (?, ?)', one.line, one.reason)
  }
  tx.run(
    'UPDATE intake SET line = ?, next_byte = ?, accepted = accepted + ?, rejected = ?',
    line.number,
    line.end,
    accepted,
    rejected + rejections.length,
  )
}
