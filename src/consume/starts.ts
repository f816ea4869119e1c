import type { AttemptStore } from '../contract/store.ts'
import { asError } from './failure.ts'
import type { Held } from './held.ts'
import type { Eventually } from './value-or-promise.ts'

/**
 * Counts starts durably, before the handler, for deliveries that may have been handled before: so a
 * message that kills its process is found, at no cost to the others. A start that led to no run of
 * the handler (busy, store away) is not counted again.
 */
export class Starts {
  readonly #store: AttemptStore

  constructor(store: AttemptStore) {
    this.#store = store
  }

  /** Suspects come in slices of one. */
  count(slice: readonly Held[]): Eventually<void> {
    const held = slice[0] as Held
    if (!held.suspect || held.outcome !== null || held.startCounted) return undefined
    return this.#count(held)
  }

  /** It was finished; a count that stays behind by a failure here does no harm. */
  forget(held: Held): void {
    if (held.starts === 0) return
    this.#store.finished(held.topic.consumer, held.identity as string).catch(() => undefined)
  }

  async #count(held: Held): Promise<void> {
    try {
      held.starts = await this.#store.started(held.topic.consumer, held.identity as string)
      held.startCounted = true
    } catch (thrown) {
      held.outcome = { kind: 'unavailable', error: asError(thrown) }
    }
  }
}
