import type { Clock } from '../../src/contract/clock.ts'
import type { CrashPoints } from '../../src/contract/crash-points.ts'
import { isHoldfastError, OptionError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { ClaimResult, Identified, WorkResult } from '../../src/contract/store.ts'
import { inboxStatements } from '../sql/inbox.ts'
import { SqliteDelivery } from './delivery.ts'
import { dialect } from './dialect.ts'
import type { SqliteFile } from './file.ts'
import type { Prepared } from './prepared.ts'
import {
  OpenTransaction,
  transact,
  within,
  type Shared,
  type SqliteTransaction,
} from './transaction.ts'

/** What runs between the inbox rows and the COMMIT. */
export type Work = (
  tx: SqliteTransaction,
  fresh: readonly number[],
) => Promise<readonly WorkResult[]>

/** What a run needs. */
export interface InboxRunOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly crash: CrashPoints
  readonly emit: Emit
  readonly busyMs: number
  readonly maxTransactionMs: number
}

const sql = inboxStatements(dialect)

/** Messages of one call on their way through the inbox: rows first, then the work, then the COMMIT. */
export class InboxRun {
  readonly #options: InboxRunOptions
  readonly #messages: readonly Identified[]
  readonly #work: Work
  readonly #results: ClaimResult[] = []
  /** Deliveries whose rows the open transaction deletes. */
  #settled: SqliteDelivery[] = []

  constructor(options: InboxRunOptions, messages: readonly Identified[], work: Work) {
    this.#options = options
    this.#messages = messages
    this.#work = work
  }

  /**
   * One message after the other, each in a savepoint. A transaction that has lasted long enough is
   * committed and the rest goes on in the next: what is committed by then stays, being whole.
   */
  async each(): Promise<readonly ClaimResult[]> {
    for (let next = 0; next < this.#messages.length; next = this.#results.length) {
      const begun = await this.#transaction(async (db, shared, untilMs) => {
        for (let index = next; index < this.#messages.length; index++) {
          this.#results[index] = await this.#one(db, shared, index)
          if (this.#options.clock.now() >= untilMs) break
        }
      })
      if (!begun) break
    }
    return this.#withBusy()
  }

  /** All rows first, then the work for all that are new; rows of failed ones are taken out again. */
  async batch(): Promise<readonly ClaimResult[]> {
    const begun = await this.#transaction(async (db, shared) => {
      const claimed = this.#messages.map((message) => claim(db, message))
      const fresh = claimed.flatMap((isNew, index) => (isNew ? [index] : []))
      const done = fresh.length === 0 ? [] : await this.#handle(db, shared, fresh)
      for (const index of this.#messages.keys()) this.#results[index] = 'duplicate'
      for (const [nth, index] of fresh.entries()) {
        this.#results[index] = done[nth] === 'done' ? 'committed' : 'failed'
      }
      this.#markTwins(claimed)
      for (const [index, message] of this.#messages.entries()) this.#end(db, message, index)
    })
    return begun ? this.#results : this.#withBusy()
  }

  /** False when the file was locked all the time: nothing has begun. */
  async #transaction(
    body: (db: Prepared, shared: Shared, untilMs: number) => Promise<void>,
  ): Promise<boolean> {
    const { file, clock, crash, busyMs, maxTransactionMs } = this.#options
    let begun = false
    try {
      const deadline = clock.now() + busyMs
      const options = { file, deadline, crash, what: 'an inbox', kind: 'inbox' } as const
      await transact(options, async (db, shared) => {
        begun = true
        this.#settled = []
        const startedMs = clock.now()
        crash.at('after_begin')
        await body(db, shared, startedMs + maxTransactionMs)
        if (this.#results.includes('committed')) crash.at('after_effect')
        if (clock.now() - startedMs > maxTransactionMs) this.#warn()
      })
    } catch (error) {
      if (!begun && isHoldfastError(error) && error.code === 'storage-busy') return false
      throw error
    }
    for (const delivery of this.#settled) delivery.settledIn()
    return true
  }

  async #one(db: Prepared, shared: Shared, index: number): Promise<ClaimResult> {
    const message = this.#messages[index] as Identified
    db.run('SAVEPOINT holdfast_message')
    if (!claim(db, message)) {
      db.run('RELEASE holdfast_message')
      this.#settle(db, message)
      return 'duplicate'
    }
    const [result] = await this.#handle(db, shared, [index])
    if (result !== 'done') db.run('ROLLBACK TO holdfast_message')
    db.run('RELEASE holdfast_message')
    if (result !== 'done') return 'failed'
    this.#settle(db, message)
    return 'committed'
  }

  async #handle(
    db: Prepared,
    shared: Shared,
    fresh: readonly number[],
  ): Promise<readonly WorkResult[]> {
    const { file, crash } = this.#options
    crash.at('after_inbox_insert')
    const tx = new OpenTransaction(file, db, shared)
    const results = await within(tx, (open) => this.#work(open, fresh))
    if (Array.isArray(results) && results.length === fresh.length) return results
    throw new OptionError('work', results, `${fresh.length} results, one for each message`)
  }

  /** A second copy in a batch is a duplicate only if the first one was done; else it waits its turn. */
  #markTwins(claimed: readonly boolean[]): void {
    const failed = new Set(
      this.#messages.filter((_, at) => this.#results[at] === 'failed').map(nameOf),
    )
    for (const [index, message] of this.#messages.entries()) {
      if (claimed[index] === false && failed.has(nameOf(message))) this.#results[index] = 'busy'
    }
  }

  #end(db: Prepared, message: Identified, index: number): void {
    const result = this.#results[index]
    if (result === 'failed') db.run(sql.unclaim, message.consumer, message.id)
    else if (result !== 'busy') this.#settle(db, message)
  }

  /** Where the delivery is of a broker on this very file, it is finished with the effect. */
  #settle(db: Prepared, { delivery }: Identified): void {
    if (!(delivery instanceof SqliteDelivery)) return
    if (!delivery.canSettleIn(this.#options.file)) return
    delivery.settleIn(db)
    this.#settled.push(delivery)
  }

  #withBusy(): readonly ClaimResult[] {
    return this.#messages.map((_, index) => this.#results[index] ?? 'busy')
  }

  #warn(): void {
    const { emit, file, maxTransactionMs } = this.#options
    const message = `a handler kept a transaction on ${file.path} open for more than ${maxTransactionMs} ms; all other writers of the file wait meanwhile: do slow work (HTTP calls) before or after, or keep the inbox in a file of its own`
    emit({ type: 'warning', code: 'sqlite.long-transaction', message })
  }
}

/** True when the message is new here. */
function claim(db: Prepared, { consumer, id }: Identified): boolean {
  return db.run(sql.claim, consumer, id).changes > 0
}

function nameOf({ consumer, id }: Identified): string {
  return `${consumer} ${id}`
}
