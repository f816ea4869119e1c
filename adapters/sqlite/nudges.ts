import { outsideTransactions } from './own-transaction.ts'

/** What changed: rows were added, or something else worth a look (a lease, a schedule). */
export type Change = 'rows' | 'other'

/** Tells listeners in this process at once what a commit of this process changed. */
export class Nudges {
  readonly #listeners = new Map<number, Set<(change: Change) => void>>()

  /** Listens to one scope (see `adapters/sql/lease.ts`); returns how to stop. */
  on(scope: number, listener: (change: Change) => void): () => void {
    const listeners = this.#listeners.get(scope) ?? new Set()
    this.#listeners.set(scope, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(scope)
    }
  }

  tell(scope: number, change: Change): void {
    const listeners = this.#listeners.get(scope)
    if (listeners === undefined) return
    // Whoever committed may be inside a transaction on another file; who listens is not.
    outsideTransactions(() => {
      for (const listener of listeners) listener(change)
    })
  }
}
