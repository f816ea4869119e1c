import type { Clock } from '../../src/contract/clock.ts'
import type { Prepared } from './prepared.ts'
import type { Hold, HoldKind } from './turn.ts'

const MOST_HOLDS = 64
/** A transaction that has lasted this long takes nobody else in. */
const SHARED_FOR_MS = 10
/** Nobody waits for the COMMIT because of a kind that was slower than this the last time. */
const QUICK_MS = 2

/** Decides who may join a transaction that somebody holds, so that they share its COMMIT. */
export class Company {
  readonly #clock: Clock
  readonly #lastMs: Record<HoldKind, number> = { own: 0, inbox: 0 }
  #schema = -1
  #deferred = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Remembers how long one took. */
  took(kind: HoldKind, ms: number): void {
    this.#lastMs[kind] = ms
  }

  /** Whether `next` may join a transaction begun then, with so many in it. */
  admits(db: Prepared, next: Hold | undefined, begunMs: number, holds: number): boolean {
    if (next === undefined || holds >= MOST_HOLDS) return false
    if (this.#clock.now() - begunMs >= SHARED_FOR_MS || this.#lastMs[next.kind] > QUICK_MS) {
      return false
    }
    return !this.#mayBeRefused(db)
  }

  /**
   * Whether the COMMIT may be refused for what is in the transaction already: by constraints that are
   * deferred until then. Whoever joined would be rolled back for somebody else's fault.
   */
  #mayBeRefused(db: Prepared): boolean {
    if (db.get('PRAGMA defer_foreign_keys')?.['defer_foreign_keys'] === 1) return true
    const schema = db.get('PRAGMA schema_version')?.['schema_version'] as number
    if (schema !== this.#schema) {
      this.#schema = schema
      const deferred = "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%DEFERRED%' LIMIT 1"
      this.#deferred = db.get(deferred) !== undefined
    }
    return this.#deferred
  }
}
