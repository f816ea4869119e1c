import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { Alarm } from './alarm.ts'
import { Company } from './company.ts'
import { busyError, storageError, troubleOf } from './errors.ts'
import { asTransactionOn, outsideTransactions } from './own-transaction.ts'
import type { Prepared } from './prepared.ts'
import { Recovery } from './recovery.ts'
import { Turn, type Hold, type HoldKind, type Job } from './turn.ts'
import { WriterHealth } from './writer-health.ts'

/** What a writer needs. */
export interface WriterOptions {
  readonly file: string
  readonly db: Prepared
  readonly clock: Clock
  readonly random: Random
}

/** How a transaction is held. */
export interface HoldOptions {
  readonly deadline: Deadline
  /** Default 'own'. */
  readonly kind?: HoldKind
}

const MOST_JOBS = 256
const SHORTEST_PAUSE_MS = 0.5
const LONGEST_PAUSE_MS = 12

/**
 * The one writer of a file in this process: a FIFO of transactions on one connection. Each turn is one
 * BEGIN IMMEDIATE … COMMIT with what somebody holds open, others that share it, and every job queued
 * meanwhile, so that a COMMIT and its fsync are shared by all that wait. The lock of another process
 * is waited for on the clock, never inside SQLite, which would stop the event loop.
 */
export class Writer {
  readonly health: WriterHealth = new WriterHealth()
  readonly #options: WriterOptions
  readonly #alarm: Alarm
  readonly #company: Company
  #jobs: Job<unknown>[] = []
  /** Jobs that begin no transaction of their own yet. */
  #patient: Job<unknown>[] = []
  readonly #impatience: Alarm
  readonly #recovery: Recovery
  /** Jobs that failed in company. */
  #alone: Job<unknown>[] = []
  #holds: Hold[] = []
  #pumping: Promise<void> | null = null
  #current: Turn | null = null
  #holding = false
  #lastTurnAt: number
  #closed = false

  constructor(options: WriterOptions) {
    this.#options = options
    this.#lastTurnAt = options.clock.now()
    this.#company = new Company(options.clock)
    this.#alarm = new Alarm(options.clock, () => this.#expire())
    this.#impatience = new Alarm(options.clock, () => this.hurry())
    // A transaction with nothing in it: beginning one is what tells that the file can be written.
    const tryWriting = (deadline: Deadline): Promise<void> => this.write(deadline, () => undefined)
    this.#recovery = new Recovery(this.health, options.clock, tryWriting)
  }

  /** Queues a job. Its `done` or `failed` is called exactly once, never before this returns. */
  add<T>(job: Job<T>): void {
    const { patienceMs = 0 } = job
    if (patienceMs > 0) {
      this.#patient.push(job)
      this.#impatience.setBy(this.#options.clock.now() + patienceMs)
      return
    }
    if (this.#current?.join(job) === true) return
    this.#jobs.push(job)
    this.#wake(job.deadline)
  }

  /** What rides along with others waits no longer for them. */
  hurry(): void {
    if (this.#patient.length === 0) return
    this.#takePatient()
    this.#wake(Infinity)
  }

  /** A job as a promise. */
  write<T>(deadline: Deadline, run: (db: Prepared) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.add({ deadline, run, done: resolve, failed: reject })
    })
  }

  /**
   * A transaction: BEGIN IMMEDIATE, `work`, COMMIT; resolves after the COMMIT. What `work` rejects with
   * is passed on after the rollback. Nobody else writes between its beginning and its end.
   */
  hold<T>(
    { deadline, kind = 'own' }: HoldOptions,
    work: (db: Prepared) => Promise<T> | T,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const bound = asTransactionOn(this.#options.file, work)
      this.#holds.push({ deadline, kind, work: bound, done: resolve, failed: reject })
      this.#wake(deadline)
    })
  }

  /** Ends what is under way, refuses the rest. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    this.#recovery.stop()
    this.hurry()
    await this.#pumping
    this.#alarm.cancel()
  }

  #wake(deadline: Deadline): void {
    this.#alarm.setBy(deadline)
    this.#pumping ??= outsideTransactions(() => this.#pump())
  }

  async #pump(): Promise<void> {
    const { clock, file } = this.#options
    // The pause between two turns gathers jobs, and lets other processes have the lock.
    for (await pause(clock); this.#waiting > 0; await pause(clock)) {
      try {
        if (this.#closed) this.#failAll(new ClosedError(`database file ${file}`))
        else if (await this.#begin()) await this.#turn()
      } catch (error) {
        this.#failAll(storageError(error, file, 'writing'))
      }
      this.#lastTurnAt = clock.now()
    }
    this.#alarm.cancel()
    this.#pumping = null
  }

  get #waiting(): number {
    return this.#jobs.length + this.#alone.length + this.#holds.length
  }

  /** True once the transaction is open; false when nothing is left to do. */
  async #begin(): Promise<boolean> {
    const { clock, random, file } = this.#options
    const since = clock.now()
    for (let longest = SHORTEST_PAUSE_MS * 2; this.#waiting > 0 && !this.#closed;) {
      const error = this.#tryBegin()
      if (error === null) {
        this.health.up()
        return true
      }
      if (troubleOf(error) !== 'busy') {
        const named = storageError(error, file, 'beginning a transaction')
        this.health.down(named.message)
        this.#failAll(named)
        return false
      }
      this.health.busy(clock.now() - since)
      await sleep(clock, SHORTEST_PAUSE_MS + random.next() * longest)
      longest = Math.min(longest * 1.5, LONGEST_PAUSE_MS)
      this.#expire()
    }
    return false
  }

  #tryBegin(): unknown {
    try {
      this.#options.db.run('BEGIN IMMEDIATE')
      return null
    } catch (error) {
      return error
    }
  }

  async #turn(): Promise<void> {
    const turn = new Turn(this.#options.db, this.#options.file)
    this.#current = turn
    try {
      const alone = this.#alone.shift()
      if (alone !== undefined) this.#finish(turn, [alone])
      else if (await this.#runHolds(turn)) this.#finish(turn, this.#takeJobs())
    } catch (error) {
      turn.rollback()
      throw error
    } finally {
      this.#current = null
    }
  }

  /** The first of those that wait, and as many as may share its transaction; false when it is lost. */
  async #runHolds(turn: Turn): Promise<boolean> {
    const { clock, db } = this.#options
    const begunMs = clock.now()
    this.#holding = true
    try {
      for (let next = this.#holds.shift(); next !== undefined; next = this.#holds.shift()) {
        const startedMs = clock.now()
        if (!(await turn.hold(next))) return false
        this.#company.took(next.kind, clock.now() - startedMs)
        if (!this.#company.admits(db, this.#holds[0], begunMs, turn.holds)) break
      }
      return true
    } finally {
      this.#holding = false
    }
  }

  #finish(turn: Turn, jobs: Job<unknown>[]): void {
    const failed = turn.run(jobs)
    if (failed === null) return
    this.#alone.push(...failed)
    if (failed.length > 0 && turn.holds === 0) return
    const left = turn.commit()
    if (left instanceof Error) this.health.down(left.message)
    else this.#jobs.unshift(...left)
  }

  #takePatient(): void {
    this.#jobs.push(...this.#patient)
    this.#patient = []
    this.#impatience.cancel()
  }

  #takeJobs(): Job<unknown>[] {
    this.#takePatient()
    const jobs = this.#jobs.slice(0, MOST_JOBS)
    this.#jobs = this.#jobs.slice(MOST_JOBS)
    return jobs
  }

  /** Gives up what has waited beyond its deadline. */
  #expire(): void {
    const { clock, file } = this.#options
    const now = clock.now()
    const waits = (entry: { readonly deadline: Deadline }): boolean => entry.deadline > now
    const late = [...this.#jobs, ...this.#alone, ...this.#holds].filter((entry) => !waits(entry))
    this.#jobs = this.#jobs.filter(waits)
    this.#alone = this.#alone.filter(waits)
    this.#holds = this.#holds.filter(waits)
    const error = busyError(file, now - this.#lastTurnAt, this.#holding ? 'here' : 'process')
    for (const entry of late) entry.failed(error)
    for (const { deadline } of [...this.#jobs, ...this.#alone, ...this.#holds]) {
      this.#alarm.setBy(deadline)
    }
  }

  #failAll(error: Error): void {
    const all = [...this.#jobs, ...this.#alone, ...this.#holds]
    this.#jobs = []
    this.#alone = []
    this.#holds = []
    for (const entry of all) entry.failed(error)
  }
}

function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.defer(resolve))
}
