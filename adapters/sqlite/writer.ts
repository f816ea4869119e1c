import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { Alarm } from './alarm.ts'
import { busyError, commitError, endsTransaction, storageError, troubleOf } from './errors.ts'
import { asTransactionOn, outsideTransactions } from './own-transaction.ts'
import type { Prepared } from './prepared.ts'
import { WriterHealth } from './writer-health.ts'

/** Something that happens in the next transaction, whoever's it is. */
export interface Job<T> {
  /** Given up when it has not begun by then: nothing of it is stored. */
  readonly deadline: Deadline
  /** Synchronous, and changes nothing but the database: it may run again after a rollback. */
  run(db: Prepared): T
  /** Called right after the COMMIT. */
  done(value: T): void
  /** Nothing of it is stored; with code `commit-unknown` it may be. */
  failed(error: Error): void
}

/** A transaction that stays open while its work waits for something. */
interface Hold {
  readonly deadline: Deadline
  work(db: Prepared): Promise<unknown>
  done(value: unknown): void
  failed(error: Error): void
}

/** What a writer needs. */
export interface WriterOptions {
  readonly file: string
  readonly db: Prepared
  readonly clock: Clock
  readonly random: Random
}

const MOST_JOBS = 256
const SHORTEST_PAUSE_MS = 0.5
const LONGEST_PAUSE_MS = 12

/**
 * The one writer of a file in this process: a FIFO of transactions on one connection. Each turn is
 * one BEGIN IMMEDIATE … COMMIT and holds at most one transaction somebody keeps open, and every job
 * queued meanwhile, so that a COMMIT and its fsync are shared by all that wait. The lock of another
 * process is waited for on the clock, never inside SQLite, which would stop the event loop.
 */
export class Writer {
  readonly health: WriterHealth = new WriterHealth()
  readonly #options: WriterOptions
  readonly #alarm: Alarm
  #jobs: Job<unknown>[] = []
  readonly #alone: Job<unknown>[] = []
  #holds: Hold[] = []
  #pumping: Promise<void> | null = null
  #holding = false
  #lastTurnAt: number
  #closed = false

  constructor(options: WriterOptions) {
    this.#options = options
    this.#lastTurnAt = options.clock.now()
    this.#alarm = new Alarm(options.clock, () => this.#expire())
  }

  /** Queues a job. Its `done` or `failed` is called exactly once, never before this returns. */
  add<T>(job: Job<T>): void {
    this.#jobs.push(job)
    this.#wake(job.deadline)
  }

  /** A job as a promise. */
  write<T>(deadline: Deadline, run: (db: Prepared) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.add({ deadline, run, done: resolve, failed: reject })
    })
  }

  /**
   * A transaction of its own: BEGIN IMMEDIATE, `work`, COMMIT; resolves after the COMMIT. What `work`
   * rejects with is passed on after the rollback. Others wait until it is over.
   */
  hold<T>(deadline: Deadline, work: (db: Prepared) => Promise<T> | T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const bound = asTransactionOn(this, work)
      this.#holds.push({
        deadline,
        work: bound,
        done: resolve,
        failed: reject,
      })
      this.#wake(deadline)
    })
  }

  /** Ends what is under way, refuses the rest. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#pumping
    this.#alarm.cancel()
  }

  #wake(deadline: Deadline): void {
    this.#alarm.setBy(deadline)
    this.#pumping ??= outsideTransactions(() => this.#pump())
  }

  async #pump(): Promise<void> {
    const { clock } = this.#options
    // The pause between two turns gathers jobs, and lets other processes have the lock.
    for (await pause(clock); this.#waiting > 0; await pause(clock)) {
      try {
        if (this.#closed) this.#failAll(new ClosedError(`database file ${this.#options.file}`))
        else if (await this.#begin()) await this.#turn()
      } catch (error) {
        this.#rollback()
        this.#failAll(storageError(error, this.#options.file, 'writing'))
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
    const alone = this.#alone.shift()
    if (alone !== undefined) return this.#finish(null, null, [alone])
    const hold = this.#holds.shift() ?? null
    if (hold === null) return this.#finish(null, null, this.#takeJobs())
    this.#holding = true
    try {
      const value = await hold.work(this.#options.db)
      this.#finish(hold, value, this.#takeJobs())
    } catch (error) {
      this.#rollback()
      hold.failed(storageError(error, this.#options.file, 'in a transaction'))
    } finally {
      this.#holding = false
    }
  }

  #takeJobs(): Job<unknown>[] {
    const jobs = this.#jobs.slice(0, MOST_JOBS)
    this.#jobs = this.#jobs.slice(MOST_JOBS)
    return jobs
  }

  /** Runs the jobs inside the open transaction and commits all of it. */
  #finish(hold: Hold | null, value: unknown, jobs: readonly Job<unknown>[]): void {
    const run = this.#runAll(hold, jobs)
    if (run === null) return
    try {
      this.#options.db.run('COMMIT')
    } catch (error) {
      this.#rollback()
      const named = commitError(error, this.#options.file)
      this.health.down(named.message)
      hold?.failed(named)
      for (const job of run.jobs) job.failed(named)
      return
    }
    hold?.done(value)
    for (const [index, job] of run.jobs.entries()) job.done(run.results[index])
  }

  /** The jobs that are part of the transaction now, with their results; null when there is none any more. */
  #runAll(
    hold: Hold | null,
    jobs: readonly Job<unknown>[],
  ): { jobs: readonly Job<unknown>[]; results: readonly unknown[] } | null {
    const { db } = this.#options
    if (jobs.length === 0) return { jobs, results: [] }
    try {
      if (hold !== null) db.run('SAVEPOINT holdfast_jobs')
      const results = jobs.map((job) => job.run(db))
      if (hold !== null) db.run('RELEASE holdfast_jobs')
      return { jobs, results }
    } catch (error) {
      return this.#spoiled(error, hold, jobs)
    }
  }

  /** One job failed: it must take neither the held transaction nor other jobs with it. */
  #spoiled(
    error: unknown,
    hold: Hold | null,
    jobs: readonly Job<unknown>[],
  ): { jobs: readonly Job<unknown>[]; results: readonly unknown[] } | null {
    const { db, file } = this.#options
    const trouble = troubleOf(error)
    const named = storageError(error, file, 'writing')
    if (endsTransaction(trouble)) this.health.down(named.message)
    if (jobs.length > 1 || hold !== null) this.#alone.push(...jobs)
    else for (const job of jobs) job.failed(named)
    if (hold !== null && !endsTransaction(trouble)) {
      db.run('ROLLBACK TO holdfast_jobs')
      db.run('RELEASE holdfast_jobs')
      return { jobs: [], results: [] }
    }
    this.#rollback()
    hold?.failed(named)
    return null
  }

  #rollback(): void {
    try {
      this.#options.db.run('ROLLBACK')
    } catch {
      // SQLite has rolled back by itself.
    }
  }

  /** Gives up what has waited beyond its deadline. */
  #expire(): void {
    const { clock, file } = this.#options
    const now = clock.now()
    const waited = (entry: { readonly deadline: Deadline }): boolean => entry.deadline > now
    const late = [...this.#jobs, ...this.#alone, ...this.#holds].filter((entry) => !waited(entry))
    this.#jobs = this.#jobs.filter(waited)
    this.#alone.splice(0, this.#alone.length, ...this.#alone.filter(waited))
    this.#holds = this.#holds.filter(waited)
    const error = busyError(file, now - this.#lastTurnAt, this.#holding ? 'here' : 'process')
    for (const entry of late) entry.failed(error)
    for (const { deadline } of [...this.#jobs, ...this.#alone, ...this.#holds]) {
      this.#alarm.setBy(deadline)
    }
  }

  #failAll(error: Error): void {
    const all = [...this.#jobs, ...this.#alone, ...this.#holds]
    this.#jobs = []
    this.#alone.length = 0
    this.#holds = []
    for (const entry of all) entry.failed(error)
  }
}

function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.defer(resolve))
}
