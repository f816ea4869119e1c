import type { Deadline } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { commitError, endsTransaction, storageError, troubleOf, type Trouble } from './errors.ts'
import type { Prepared } from './prepared.ts'

/** Something that happens in the next transaction, whoever's it is. */
export interface Job<T> {
  /** Given up when it has not begun by then: nothing of it is stored. */
  readonly deadline: Deadline
  /** How long it may wait for a transaction to ride along with, in milliseconds. Default 0: it begins one. */
  readonly patienceMs?: number
  /**
   * Synchronous, and changes nothing but the database: it may run again after a rollback. Jobs that it
   * makes somebody add to the writer are part of the same transaction.
   */
  run(db: Prepared): T
  /** Called right after the COMMIT. */
  done(value: T): void
  /** Nothing of it is stored; with code `commit-unknown` it may be. */
  failed(error: Error): void
}

/** Work that keeps the transaction open while it waits for something. */
export interface Hold {
  readonly deadline: Deadline
  /** Who holds: what the last one of a kind took is what the next is expected to take. */
  readonly kind: HoldKind
  work(db: Prepared): Promise<unknown>
  done(value: unknown): void
  failed(error: Error): void
}

/** The application's own transactions, and those around handlers. */
export type HoldKind = 'own' | 'inbox'

interface Part<W> {
  readonly work: W
  readonly value: unknown
}

/**
 * One transaction, already begun: what is held in it, the jobs that ride along, its COMMIT. A part that
 * fails takes no other with it, unless SQLite gives up the whole transaction.
 */
export class Turn {
  readonly #db: Prepared
  readonly #file: string
  readonly #holds: Part<Hold>[] = []
  #jobs: Part<Job<unknown>>[] = []
  /** Those that run now; others may still join them. */
  #running: Job<unknown>[] | null = null

  constructor(db: Prepared, file: string) {
    this.#db = db
    this.#file = file
  }

  get holds(): number {
    return this.#holds.length
  }

  /** Runs the work inside the transaction; false when there is no transaction any more. */
  async hold(hold: Hold): Promise<boolean> {
    const first = this.#holds.length === 0
    if (!first) this.#db.run('SAVEPOINT holdfast_hold')
    try {
      this.#holds.push({ work: hold, value: await hold.work(this.#db) })
      return true
    } catch (error) {
      const named = storageError(error, this.#file, 'in a transaction')
      const lost = first || endsTransaction(deepTrouble(error))
      if (lost) this.#abandon(named)
      else this.#undo('holdfast_hold')
      hold.failed(named)
      return !lost
    }
  }

  /** Runs the jobs; returns those that have to run alone, `null` when the transaction is lost with them. */
  run(jobs: Job<unknown>[]): readonly Job<unknown>[] | null {
    if (jobs.length === 0) return []
    const guarded = this.#holds.length > 0
    try {
      if (guarded) this.#db.run('SAVEPOINT holdfast_jobs')
      this.#runAll(jobs)
      if (guarded) this.#db.run('RELEASE holdfast_jobs')
      return []
    } catch (error) {
      const named = storageError(error, this.#file, 'writing')
      this.#jobs = []
      if (guarded && !endsTransaction(troubleOf(error))) {
        this.#undo('holdfast_jobs')
        return jobs
      }
      this.#abandon(named)
      if (guarded || jobs.length > 1) return jobs
      for (const job of jobs) job.failed(named)
      return null
    }
  }

  /** Takes a job along that is called for by one that runs now; false when none runs. */
  join(job: Job<unknown>): boolean {
    this.#running?.push(job)
    return this.#running !== null
  }

  #runAll(jobs: Job<unknown>[]): void {
    this.#running = jobs
    try {
      for (const work of jobs) this.#jobs.push({ work, value: work.run(this.#db) })
    } finally {
      this.#running = null
    }
  }

  /** Commits and tells everybody; returns the jobs that have to run again, or the error nothing survived. */
  commit(): readonly Job<unknown>[] | Error {
    try {
      this.#db.run('COMMIT')
    } catch (error) {
      // Refused, not failed: a deferred constraint of the application's own tables.
      if (troubleOf(error) === 'other' && this.#holds.length > 0) return this.#commitOthers(error)
      const named = commitError(error, this.#file)
      this.#abandon(named)
      for (const { work } of this.#jobs) work.failed(named)
      return named
    }
    this.#tell()
    return []
  }

  rollback(): void {
    try {
      this.#db.run('ROLLBACK')
    } catch {
      // SQLite has rolled back by itself.
    }
  }

  /** Only the last held part can be at fault: nobody is let in after one that may be. */
  #commitOthers(error: unknown): readonly Job<unknown>[] | Error {
    const jobs = this.#jobs.map(({ work }) => work)
    this.#jobs = []
    const culprit = this.#holds.pop()
    if (this.#holds.length === 0) this.rollback()
    else this.#undo('holdfast_hold')
    culprit?.work.failed(storageError(error, this.#file, 'committing'))
    const left = this.#holds.length === 0 ? [] : this.commit()
    return left instanceof Error ? left : jobs
  }

  #tell(): void {
    for (const { work, value } of this.#holds) work.done(value)
    for (const { work, value } of this.#jobs) work.done(value)
  }

  #undo(savepoint: string): void {
    this.#db.run(`ROLLBACK TO ${savepoint}`)
    this.#db.run(`RELEASE ${savepoint}`)
  }

  /** Rolls back; nothing that was held survives. */
  #abandon(error: Error): void {
    this.rollback()
    for (const { work } of this.#holds.splice(0)) work.failed(error)
  }
}

/** Of the error itself, or of the driver's error behind a named one. */
function deepTrouble(error: unknown): Trouble | null {
  return troubleOf(error) ?? (error instanceof HoldfastError ? troubleOf(error.cause) : null)
}
