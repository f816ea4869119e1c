import type { Connection, SqlRow } from '../../../adapters/sqlite/driver.ts'
import type { Entry, Facts, Operation } from '../../conformance/checker/history.ts'
import { connect, rows } from './files.ts'
import { GROUP, TOPIC } from './goods.ts'
import { RUN } from './journal.ts'
import type { Paths } from './task.ts'

const WAITING = `
  SELECT m.message_id AS id FROM holdfast_message m JOIN holdfast_queue q ON q.id = m.queue
  WHERE q.topic = '${TOPIC}' AND q.consumers = '${GROUP}' AND q.kind = 0`
const BURIED = `
  SELECT m.message_id AS id, m.meta AS meta
  FROM holdfast_message m JOIN holdfast_queue q ON q.id = m.queue WHERE q.kind = 1`
const PENDING = 'SELECT message_id AS id FROM holdfast_outbox'
const SCHEDULED = 'SELECT message_id AS id FROM holdfast_outbox_scheduled'
const PARKED = 'SELECT message_id AS id, reason FROM holdfast_outbox_dead'
const EFFECTS = 'SELECT msg_id, consumers, proc, pid, seq, at, delivery FROM effects ORDER BY at'
const ORDERS = 'SELECT msg_id, tx FROM orders'
const LEASED = 'SELECT bucket FROM holdfast_lease WHERE owner IS NOT NULL'

/** What is in the files of a run, read by plain SQL: the library that is judged takes no part. */
export class Reader {
  readonly #paths: Paths
  readonly #app: Connection
  readonly #broker: Connection

  private constructor(paths: Paths, app: Connection, broker: Connection) {
    this.#paths = paths
    this.#app = app
    this.#broker = broker
  }

  /** On fresh connections. */
  static async open(paths: Paths): Promise<Reader> {
    return new Reader(paths, await connect(paths.app), await connect(paths.broker))
  }

  close(): void {
    this.#app.close()
    this.#broker.close()
  }

  get isOneFile(): boolean {
    return this.#paths.app === this.#paths.broker
  }

  /** Ids in the outbox. */
  pending(): readonly string[] {
    return [...ids(rows(this.#app, PENDING)), ...ids(rows(this.#app, SCHEDULED))]
  }

  /** Ids that wait for the group. */
  waiting(): readonly string[] {
    return ids(rows(this.#broker, WAITING))
  }

  /** Ids of business rows, with the transaction that wrote them. */
  orders(): ReadonlyMap<string, string> {
    return new Map(rows(this.#app, ORDERS).map((row) => [String(row['msg_id']), String(row['tx'])]))
  }

  /** No row is left, and nobody holds a lease. A process that was killed could not give its leases back. */
  residue(killed: boolean): Readonly<Record<string, number>> {
    const files = this.isOneFile ? [this.#app] : [this.#app, this.#broker]
    const count = (sql: string): number =>
      files.reduce((sum, file) => sum + rows(file, sql).length, 0)
    return {
      'outbox rows': this.pending().length,
      'waiting messages': this.waiting().length,
      leases: killed ? 0 : count(LEASED),
    }
  }

  /** Effects that are committed. */
  effects(): readonly Entry[] {
    return rows(this.#app, EFFECTS).map((row) => ({
      ...base(row, 'effect', Number(row['at']), Number(row['seq'])),
      msgId: String(row['msg_id']),
      group: String(row['consumers']),
      delivery: String(row['delivery']),
    }))
  }

  /** Dead letters of the group, with the reason and attempts that their headers say. */
  deadLetters(): readonly Facts[] {
    return rows(this.#broker, BURIED).map((row) => {
      const { h = [] } = JSON.parse(String(row['meta'])) as { h?: [string, string][] }
      const header = new Map(h)
      return {
        msgId: String(row['id']),
        group: GROUP,
        reason: header.get('holdfast-dead-reason') ?? '',
        attempt: Number(header.get('holdfast-dead-attempts') ?? 0),
      }
    })
  }

  /** Rows the relay gave up. */
  parked(): readonly Facts[] {
    return rows(this.#app, PARKED).map((row) => ({
      msgId: String(row['id']),
      group: GROUP,
      reason: String(row['reason']),
    }))
  }
}

/** A line as if a process had written it. */
export function line(op: Operation, at: number, facts: Facts & { readonly proc?: string }): Entry {
  const { proc = 'reader', ...rest } = facts
  const seq = Number.MAX_SAFE_INTEGER
  return { run: RUN, proc, pid: 0, seq, t_mono: at, t_wall: 0, op, phase: 'ok', ...rest }
}

function base(row: SqlRow, op: Operation, at: number, seq: number): Entry {
  const { proc, pid } = row
  const about = { run: RUN, proc: String(proc), pid: Number(pid), seq }
  return { ...about, t_mono: at, t_wall: 0, op, phase: 'ok' }
}

function ids(found: readonly SqlRow[]): readonly string[] {
  return found.map(({ id }) => String(id))
}
