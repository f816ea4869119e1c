import type { Pending } from './pending.ts'

/**
 * What is on its way of one key: some handed over, some to be handed over again, the others behind
 * them. In key order these are: handed over, `again`, `behind`.
 */
export class KeyRun {
  readonly key: string
  readonly gate: Gate
  /** Handed over and not answered. */
  unresolved = 0
  /** One of it was given up where that ends its followers: so it goes until all are answered. */
  refusing = false
  /** Answered, and to be tried again; in key order once `unresolved` is 0. */
  again: Pending[] = []
  readonly behind: Set<Pending> = new Set()

  constructor(key: string, gate: Gate) {
    this.key = key
    this.gate = gate
  }
}

/**
 * Keeps the order of each key of one destination: of a key, either one envelope or one run in a single
 * send is unresolved at a time, so a later one can never be stored before an earlier one. Other keys
 * are not delayed.
 */
export class Gate {
  readonly #runs = new Map<string, KeyRun>()

  /** Keys with something on its way. */
  get size(): number {
    return this.#runs.size
  }

  /** true: nothing of its key is on its way, so it may be sent now. false: it rests behind. */
  enter(pending: Pending, key: string): boolean {
    const run = this.#runs.get(key)
    if (run === undefined) {
      pending.run = new KeyRun(key, this)
      this.#runs.set(key, pending.run)
      return true
    }
    pending.run = run
    pending.stage = 'behind'
    pending.shelve(run.behind)
    return false
  }

  /** What of the run may be sent next; null when nothing is left, and then the key is free. */
  next(run: KeyRun): Pending | null {
    const next = run.again.shift() ?? firstOf(run.behind)
    if (next === null) this.#runs.delete(run.key)
    else next.unshelve()
    return next
  }
}

/** What follows in the run and may go in the same send, as long as `fits` says so. */
export function* followers(run: KeyRun, fits: (pending: Pending) => boolean): Generator<Pending> {
  for (;;) {
    const next = run.again[0] ?? firstOf(run.behind)
    if (next === null || !fits(next)) return
    if (next === run.again[0]) run.again.shift()
    next.unshelve()
    yield next
  }
}

function firstOf(set: Set<Pending>): Pending | null {
  for (const first of set) return first
  return null
}
