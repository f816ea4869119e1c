import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import { Alarm } from './alarm.ts'
import { brokerSql } from './broker-schema.ts'
import type { SqliteDelivery } from './delivery.ts'
import type { SqliteFile } from './file.ts'
import type { Prepared } from './prepared.ts'

/** What settling needs. */
export interface SettlesOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly emit: Emit
  readonly owner: string
  /** Whether more can be handed over before anything of this is written. */
  hasRoom(): boolean
  /** Called after the COMMIT; `applied` is false for a delivery that was not ours any more. */
  settled(delivery: SqliteDelivery, applied: boolean): void
}

interface Settle {
  readonly delivery: SqliteDelivery
  /** `null`: finished; else redeliver after that many milliseconds. */
  readonly delayMs: number | null
}

const MOST_IN_ONE = 1_000
/** Settles follow each other closely: they wait this long for a transaction to ride along with. */
const PATIENCE_MS = 5
const PAUSE_AFTER_FAILURE_MS = 200
const DEGRADED_AFTER_MS = 30_000

/**
 * Settles on their way into the file: gathered while a transaction runs, written by the next one.
 * Each statement asks whether the row's bucket is still leased under the delivery's epoch.
 */
export class Settles {
  readonly #options: SettlesOptions
  readonly #pending: Settle[] = []
  readonly #again: Alarm
  #waiting: (() => void)[] = []
  #added = 0
  #inFile = 0
  #writing = false
  #failingSince: number | null = null
  #closed = false

  constructor(options: SettlesOptions) {
    this.#options = options
    this.#again = new Alarm(options.clock, () => {
      this.#writing = false
      this.#write()
    })
  }

  add(delivery: SqliteDelivery, delayMs: number | null): void {
    this.#added++
    this.#pending.push({ delivery, delayMs })
    if (this.#writing && !this.#options.hasRoom()) this.#options.file.writer.hurry()
    else this.#write()
  }

  /** True once the row is gone; false when the bucket is not leased to us under that epoch any more. */
  remove(db: Prepared, { id, source }: SqliteDelivery): boolean {
    return db.of(brokerSql.remove).run(id, this.#options.owner, source.epoch).changes > 0
  }

  /** Resolves when everything added before is in the file; rejects with code `settle` at the deadline. */
  async flush(deadline: Deadline): Promise<void> {
    const { clock, file } = this.#options
    const last = this.#added
    file.writer.hurry()
    while (this.#inFile < last) {
      if (clock.now() >= deadline || this.#closed) {
        const text = `${last - this.#inFile} settles are not in ${file.path}: they will be delivered again`
        throw new HoldfastError('settle', text)
      }
      await this.#next(deadline)
    }
  }

  /** What is not written now never will be. */
  close(): void {
    this.#closed = true
    this.#pending.length = 0
    this.#again.cancel()
    this.#mended()
    this.#wake()
  }

  #next(deadline: Deadline): Promise<void> {
    const { clock } = this.#options
    return new Promise((resolve) => {
      const cancel = clock.after(deadline - clock.now(), resolve)
      this.#waiting.push(() => {
        cancel()
        resolve()
      })
    })
  }

  #write(): void {
    if (this.#writing || this.#closed || this.#pending.length === 0) return
    this.#writing = true
    this.#options.file.writer.add({
      deadline: Infinity,
      patienceMs: this.#options.hasRoom() ? PATIENCE_MS : 0,
      run: (db) => this.#pending.slice(0, MOST_IN_ONE).map((settle) => this.#apply(db, settle)),
      done: (applied) => this.#written(applied),
      failed: (error) => this.#failed(error),
    })
  }

  #apply(db: Prepared, { delivery, delayMs }: Settle): boolean {
    if (delayMs === null) return this.remove(db, delivery)
    const { id, source } = delivery
    const retry = db.of(brokerSql.retry)
    return retry.run(delayMs, id, this.#options.owner, source.epoch).changes > 0
  }

  #written(applied: readonly boolean[]): void {
    this.#writing = false
    this.#mended()
    const settles = this.#pending.splice(0, applied.length)
    this.#inFile += settles.length
    this.#write()
    for (const [index, { delivery }] of settles.entries()) {
      this.#options.settled(delivery, applied[index] as boolean)
    }
    this.#wake()
  }

  /** They stay pending: until it works, or until the lease is lost and others deliver them again. */
  #failed(error: Error): void {
    const { clock, emit, file } = this.#options
    if (emit.wants('settle.failed')) {
      emit({ type: 'settle.failed', count: this.#pending.length, error })
    }
    this.#wake()
    if (this.#closed) return
    const now = clock.now()
    this.#failingSince ??= now
    if (now - this.#failingSince >= DEGRADED_AFTER_MS) {
      const seconds = DEGRADED_AFTER_MS / 1_000
      const reason = `nothing could be settled for ${seconds} s: ${error.message}`
      file.writer.health.degraded(this, reason)
    }
    this.#again.setBy(now + PAUSE_AFTER_FAILURE_MS)
  }

  #mended(): void {
    if (this.#failingSince === null) return
    this.#failingSince = null
    this.#options.file.writer.health.mended(this)
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }
}
