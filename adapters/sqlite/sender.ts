import { CONFIRMED, type Deadline, type Report, type Sender } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import {
  OutcomeUnknownError,
  PublishRefusedError,
  type HoldfastError,
} from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { Alarm } from './alarm.ts'
import { isAboutValues } from './errors.ts'
import type { SqliteFile } from './file.ts'
import { Insertion, type Batch, type InsertionOptions, type Refusal } from './insertion.ts'
import { refusalInside } from './refusal.ts'

/** What a sender needs. */
export interface SenderOptions extends InsertionOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly purpose: 'publish' | 'relay' | 'settle'
}

/** One call of `send` whose fate is open. */
interface Call extends Batch {
  readonly deadline: Deadline
  readonly report: Report
  readonly unsafeKeys: Set<string>
}

/** Envelopes and bytes of bodies in one transaction; one call always fits. */
const MOST_ROWS = 1_000
const MOST_BYTES = 8 * 1024 * 1024

/**
 * Stores envelopes in the order of the calls, many calls in one transaction. 'confirmed' is the word
 * of the COMMIT. While another process has the file locked, calls wait until their own deadline.
 */
export class SqliteSender implements Sender {
  readonly #options: SenderOptions
  readonly #alarm: Alarm
  readonly #calls: Call[] = []
  #writing = false
  /** How many calls are part of the transaction under way. */
  #taken = 0
  /** Envelopes known to be bad when the try under way began. */
  #knownBad = 0
  #state: 'open' | 'closing' | 'closed' = 'open'
  #onIdle: (() => void) | null = null

  constructor(options: SenderOptions) {
    this.#options = options
    this.#alarm = new Alarm(options.clock, () => this.#refuseLate())
  }

  send(envelopes: readonly Envelope[], deadline: Deadline, report: Report): void {
    const error = this.#state === 'open' ? this.#inside() : notSent('the broker is closed')
    if (error !== null) {
      const refused = { status: 'refused', error } as const
      this.#options.clock.defer(() => report(0, envelopes.length, refused))
      return
    }
    this.#calls.push({ envelopes, deadline, report, unsafeKeys: new Set(), bad: new Map() })
    this.#alarm.setBy(deadline)
    this.#write()
  }

  async close(deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'closing'
    if (this.#calls.length > 0) await this.#idle(deadline)
    this.#state = 'closed'
    if (this.#calls.length > 0) this.#refuse(() => true, notSent('the broker was closed'))
    this.#alarm.cancel()
  }

  /** For callers that did not ask the broker: others may be in the same batch, so it is worth trying again. */
  #inside(): PublishRefusedError | null {
    const { file, purpose } = this.#options
    const error = refusalInside(purpose, (path) => path === file.path)
    return error && new PublishRefusedError(error.code, error.message, { retryable: true })
  }

  #idle(deadline: Deadline): Promise<void> {
    const { clock } = this.#options
    return new Promise((resolve) => {
      const cancel = clock.after(deadline - clock.now(), resolve)
      const before = this.#onIdle
      this.#onIdle = () => {
        before?.()
        cancel()
        resolve()
      }
    })
  }

  #write(): void {
    if (this.#writing || this.#calls.length === 0) return
    this.#writing = true
    this.#options.file.writer.add({
      // Each call has its own, kept by the alarm.
      deadline: Infinity,
      run: (db) => {
        const insertion = new Insertion(db, this.#options)
        const calls = this.#next()
        this.#taken = calls.length
        this.#knownBad = this.#bad
        const refusals = calls.map((call) => insertion.store(call))
        // Told before the COMMIT too, so that whoever claims the rows shares it.
        this.#tellRows(insertion)
        return { insertion, refusals }
      },
      done: ({ insertion, refusals }) => this.#stored(insertion, refusals),
      failed: (error) => this.#failed(error as HoldfastError),
    })
  }

  get #bad(): number {
    return this.#calls.reduce((sum, { bad }) => sum + bad.size, 0)
  }

  /** The calls that fit one transaction. */
  #next(): readonly Call[] {
    this.#refuseLate()
    let rows = 0
    let bytes = 0
    let count = 0
    for (const { envelopes } of this.#calls) {
      rows += envelopes.length
      for (const { body } of envelopes) bytes += body?.length ?? 0
      if (count > 0 && (rows > MOST_ROWS || bytes > MOST_BYTES)) break
      count++
    }
    return this.#calls.slice(0, count)
  }

  #stored(insertion: Insertion, refusals: readonly (readonly Refusal[])[]): void {
    const calls = this.#calls.splice(0, refusals.length)
    for (const key of insertion.failedKeys) this.#holdBack(key)
    this.#done()
    for (const [queue, change] of insertion.changed) this.#options.file.nudges.tell(queue, change)
    for (const [index, { envelopes, report }] of calls.entries()) {
      tell(report, envelopes.length, refusals[index] as readonly Refusal[])
    }
  }

  #tellRows({ changed }: Insertion): void {
    for (const [queue, change] of changed) {
      if (change === 'rows') this.#options.file.nudges.tell(queue, change)
    }
  }

  #failed(error: HoldfastError): void {
    // One more envelope that SQLite does not take: the next try leaves it out.
    const isolated = isAboutValues(error) && this.#bad > this.#knownBad
    this.#knownBad = this.#bad
    if (!isolated) {
      // What waits behind a failed transaction fails with it: the file is what failed, and order is kept.
      const calls = this.#calls.splice(0)
      const taken = error.code === 'commit-unknown' ? this.#taken : 0
      for (const [index, { envelopes, report }] of calls.entries()) {
        if (index < taken) report(0, envelopes.length, unknown(error))
        else report(0, envelopes.length, { status: 'refused', error: refusal(error) })
      }
    }
    this.#done()
  }

  #done(): void {
    this.#writing = false
    this.#taken = 0
    this.#write()
    if (this.#calls.length > 0) return
    this.#alarm.cancel()
    this.#onIdle?.()
    this.#onIdle = null
  }

  /** What was not written by its deadline never will be. */
  #refuseLate(): void {
    const now = this.#options.clock.now()
    const isLate = ({ deadline }: Call): boolean => deadline <= now
    if (this.#calls.some(isLate)) {
      const text = `not written by the deadline: ${this.#options.file.path} was locked or busy all the time`
      this.#refuse(isLate, notSent(text))
    }
    for (const { deadline } of this.#calls) this.#alarm.setBy(deadline)
  }

  #refuse(which: (call: Call) => boolean, error: PublishRefusedError): void {
    const refused = this.#calls.filter(which)
    this.#calls.splice(0, this.#calls.length, ...this.#calls.filter((call) => !which(call)))
    for (const { envelopes } of refused) {
      for (const { orderKey } of envelopes) if (orderKey !== null) this.#holdBack(orderKey)
    }
    for (const { envelopes, report } of refused) {
      report(0, envelopes.length, { status: 'refused', error })
    }
  }

  /** Whoever was sent while the key's earlier message was open must not be stored before it. */
  #holdBack(key: string): void {
    for (const { unsafeKeys } of this.#calls) unsafeKeys.add(key)
  }
}

function tell(report: Report, count: number, refusals: readonly Refusal[]): void {
  let from = 0
  for (const { index, error } of refusals) {
    if (index > from) report(from, index, CONFIRMED)
    report(index, index + 1, { status: 'refused', error })
    from = index + 1
  }
  if (from < count) report(from, count, CONFIRMED)
}

function notSent(text: string): PublishRefusedError {
  return new PublishRefusedError('not-sent', text, { retryable: true })
}

function refusal(error: HoldfastError): PublishRefusedError {
  const retryable = 'transient' in error && error.transient === true
  return new PublishRefusedError(error.code, error.message, { cause: error, retryable })
}

function unknown(cause: HoldfastError): { status: 'unknown'; error: OutcomeUnknownError } {
  return { status: 'unknown', error: new OutcomeUnknownError(cause.code, cause.message, { cause }) }
}
