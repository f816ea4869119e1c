import type { Deadline } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import { commitError, endsTransaction, storageError, troubleOf, type Trouble } from './errors.ts'
import type { Prepared } from './prepared.ts'

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

/** Work that keeps the transaction open while it waits for something. */
export interface Hold {
  readonly deadline: Deadline
  /** Others of this kind may be part of the same transaction, each in a savepoint. */
  readonly shares: boolean
  work(db: Prepared): Promise<unknown>
  done(value: unknown): void
  failed(error: Error): void
}

/** It was rolled back because another part of the same transaction could not be committed: try again. */
export class RolledBackWithOthers extends HoldfastError {
  constructor(file: string, cause: unknown) {
    super('busy', `a transaction on ${file} was undone together with another one: try again`, {
      cause,
    })
  }
}

interface Part<W, V> {
  readonly work: W
  readonly value: V
}

/**
 * One transaction, already begun: what is held in it, the jobs that ride along, its COMMIT. A part that
 * fails takes no other with it, unless SQLite gave up the whole transaction.
 */
export class Turn {
  readonly #db: Prepared
  readonly #file: string
  readonly #holds: Part<Hold, unknown>[] = []
  #jobs: Part<Job<unknown>, unknown>[] = []

  constructor(db: Prepared, file: string) {
    this.#db = db
    this.#file = file
  }

  get holds(): number {
    return this.#holds.length
  }

  /** Runs the work inside the transaction; false when there is no transaction any more. */
  async hold(hold: Hold): Promise<boolean> {
    if (hold.shares) this.#db.run('SAVEPOINT holdfast_hold')
    try {
      const value = await hold.work(this.#db)
      this.#holds.push({ work: hold, value })
      return true
    } catch (error) {
      const named = storageError(error, this.#file, 'in a transaction')
      const lost = !hold.shares || endsTransaction(deepTrouble(error))
      if (lost) this.#abandon(named)
      else this.#undo('holdfast_hold')
      hold.failed(named)
      return !lost
    }
  }

  /** Runs the jobs; returns those that have to run alone, `null` when the transaction is lost with them. */
  run(jobs: readonly Job<unknown>[]): readonly Job<unknown>[] | null {
    if (jobs.length === 0) return []
    const guarded = this.#holds.length > 0
    try {
      if (guarded) this.#db.run('SAVEPOINT holdfast_jobs')
      this.#jobs = jobs.map((work) => ({ work, value: work.run(this.#db) }))
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

  /** Commits and tells everybody; returns the jobs that have to run again, or the error nothing survived. */
  commit(): readonly Job<unknown>[] | Error {
    try {
      this.#db.run('COMMIT')
    } catch (error) {
      // Refused, not failed: a deferred constraint of the user's own tables.
      if (troubleOf(error) === 'other' && this.#holds.length > 0) return this.#unwind(error)
      const named = commitError(error, this.#file)
      this.#abandon(named)
      for (const { work } of this.#jobs) work.failed(named)
      return named
    }
    for (const { work, value } of this.#holds) work.done(value)
    for (const { work, value } of this.#jobs) work.done(value)
    return []
  }

  /** Takes parts back, the last first, until the rest can be committed. */
  #unwind(error: unknown): readonly Job<unknown>[] {
    const jobs = this.#jobs.map(({ work }) => work)
    this.#jobs = []
    let culprit: Part<Hold, unknown> | undefined
    do {
      if (culprit !== undefined) culprit.work.failed(new RolledBackWithOthers(this.#file, error))
      culprit = this.#holds.pop()
      if (culprit?.work.shares === true) this.#undo('holdfast_hold')
    } while (this.#holds.length > 0 && !this.#tryCommit())
    if (this.#holds.length === 0) this.rollback()
    culprit?.work.failed(storageError(error, this.#file, 'committing'))
    for (const { work, value } of this.#holds) work.done(value)
    return jobs
  }

  #tryCommit(): boolean {
    try {
      this.#db.run('COMMIT')
      return true
    } catch {
      return false
    }
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

  rollback(): void {
    try {
      this.#db.run('ROLLBACK')
    } catch {
      // SQLite has rolled back by itself.
    }
  }
}

/** Of the error itself, or of the driver's error behind a named one. */
function deepTrouble(error: unknown): Trouble | null {
  return troubleOf(error) ?? (error instanceof HoldfastError ? troubleOf(error.cause) : null)
}
