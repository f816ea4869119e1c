import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { fateOf, usualFailures, withSomeFailures } from '../../../examples/shop/charge-failures.ts'
import { PROCESSES } from '../../../examples/shop/crew.ts'
import { History } from '../../../examples/shop/history.ts'
import { files, type Settings } from '../../../examples/shop/settings.ts'
import { openPlain } from '../../../examples/shop/sql.ts'
import { createTables } from '../../../examples/shop/tables.ts'

const ORDERS = 12
const CUSTOMERS = 3

interface Order {
  readonly id: string
  readonly customer: string
  readonly amount: number
  readonly line: number
}

/** The folder of a run in which everything went as it should, made by hand, to be tampered with. */
export class FinishedRun {
  readonly settings: Settings
  readonly orders: readonly Order[]
  readonly hopeless: readonly Order[]
  readonly payable: readonly Order[]

  private constructor(dir: string, orders: readonly Order[]) {
    const failures = withSomeFailures(
      usualFailures(1),
      orders.map(({ id }) => id),
    )
    const input = join(dir, 'orders.ndjson')
    const text = orders.map((order) => `${JSON.stringify(order)}\n`).join('')
    writeFileSync(input, text)
    this.orders = orders
    this.hopeless = orders.filter(({ id }) => fateOf(failures, id).kind === 'permanent')
    this.payable = orders.filter(({ id }) => fateOf(failures, id).kind !== 'permanent')
    this.settings = {
      dir,
      broker: 'sqlite',
      url: null,
      prefix: null,
      input: {
        path: input,
        bytes: Buffer.byteLength(text),
        fields: { id: 'id', key: 'customer', amount: 'amount' },
      },
      ratePerSecond: null,
      failures,
    }
  }

  static async make(): Promise<FinishedRun> {
    const orders = Array.from({ length: ORDERS }, (_, index) => ({
      id: `o-${index}`,
      customer: `c-${index % CUSTOMERS}`,
      amount: index * 10,
      line: index + 1,
    }))
    const run = new FinishedRun(mkdtempSync(join(tmpdir(), 'holdfast-run-')), orders)
    await createTables(files.shop(run.settings.dir))
    await run.#fillShop()
    await run.#fillBroker()
    run.#deliver()
    return run
  }

  remove(): void {
    rmSync(this.settings.dir, { recursive: true })
  }

  /** Changes the shop's database. */
  async shop(...statements: readonly string[]): Promise<void> {
    await execute(files.shop(this.settings.dir), statements)
  }

  /** Changes the broker's database. */
  async broker(...statements: readonly string[]): Promise<void> {
    await execute(files.broker(this.settings.dir), statements)
  }

  /** Adds to the history of a process. */
  history(proc: string, tell: (history: History) => void): void {
    const history = new History(files.history(this.settings.dir, proc), proc)
    tell(history)
    history.close()
  }

  /** What the demo's faults leave behind. */
  addFaults(): void {
    this.history('demo', (history) => {
      for (const { name: victim } of PROCESSES) {
        for (let n = 0; n < 3; n++) history.write('ok', { op: 'kill', victim, victimPid: 1 })
      }
    })
    this.history('outage', (history) => {
      history.write('invoke', { op: 'outage' })
      history.write('ok', { op: 'outage', ms: 2_000 })
    })
  }

  deadLetter({ id }: { readonly id: string }, reason = 'permanent'): string {
    const meta = JSON.stringify({ h: [['holdfast-dead-reason', reason]] })
    const body = Buffer.from(JSON.stringify({ id })).toString('hex')
    return `INSERT INTO holdfast_message (queue, meta, body) VALUES (2, '${meta}', x'${body}')`
  }

  async #fillShop(): Promise<void> {
    const inserts = this.orders.map(({ id, customer, amount, line }) => {
      return `INSERT INTO orders VALUES ('${id}', '${customer}', ${amount}, ${line})`
    })
    await this.shop(
      'CREATE TABLE holdfast_outbox (id INTEGER PRIMARY KEY)',
      'CREATE TABLE holdfast_outbox_dead (id INTEGER PRIMARY KEY)',
      ...inserts,
      ...this.payable.map((order) => chargeOf(order)),
      `UPDATE intake SET accepted = ${ORDERS}, line = ${ORDERS}, finished = 1`,
    )
  }

  async #fillBroker(): Promise<void> {
    await this.broker(
      'CREATE TABLE holdfast_queue (id INTEGER PRIMARY KEY, topic, consumers, kind)',
      'CREATE TABLE holdfast_message (id INTEGER PRIMARY KEY, queue, meta, body)',
      "INSERT INTO holdfast_queue VALUES (1, 'orders', 'billing', 0), (2, 'orders', 'billing', 1)",
      ...this.hopeless.map((order) => this.deadLetter(order)),
    )
  }

  #deliver(): void {
    this.history('intake', (history) => {
      for (const { id, line } of this.orders) {
        history.write('invoke', { op: 'order', id, line })
        history.write('ok', { op: 'order', id, line })
      }
    })
    this.history('billing-1', (history) => {
      for (const order of this.orders) this.#handle(history, order)
    })
  }

  #handle(history: History, order: Order): void {
    handled(history, order)
    if (fateOf(this.settings.failures, order.id).kind === 'fine') return
    history.write('fail', { op: 'charge', id: order.id, message: `m-${order.id}`, reason: 'no' })
    handled(history, order)
  }
}

/** A handler runs for the order. */
export function handled(history: History, { id, customer: key, line }: Order): void {
  history.write('invoke', { op: 'charge', id, message: `m-${id}`, key, line, attempt: 1 })
}

export function chargeOf({ id, customer, amount, line }: Order): string {
  const columns = 'order_id, customer, amount, line'
  return `INSERT INTO charges (${columns}) VALUES ('${id}', '${customer}', ${amount}, ${line})`
}

async function execute(file: string, statements: readonly string[]): Promise<void> {
  const database = await openPlain(file, { readOnly: false, busyMs: 5_000 })
  try {
    for (const statement of statements) database.exec(statement)
  } finally {
    database.close()
  }
}
