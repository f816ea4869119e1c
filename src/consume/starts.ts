import type { AttemptStore } from '../contract/store.ts'
import { asError } from './failure.ts'
import type { Held } from './held.ts'
import type { WithinStoreTime } from './store-time.ts'
import type { Eventually } from './value-or-promise.ts'

/** From this start on a suspect keeps its turn until it has ended. */
const ALONE_FROM = 2

/**
 * Counts starts durably, before the handler, for deliveries that may have been handled before: so a
 * message that kills its process is found, at no cost to the others. A start that led to no run of
 * the handler (busy, store away) is not counted again. One that was started before is handled while
 * no other suspect is counted, so that nobody's count goes up with the one that kills.
 */
export class Starts {
  readonly #store: AttemptStore
  readonly #aloneFrom: number
  readonly #within: WithinStoreTime
  /** Resolves when the next suspect may be counted. */
  #turn: Promise<void> = Promise.resolve()
  readonly #leaving = new Map<Held, () => void>()

  /** `attempts`: tries in all. */
  constructor(store: AttemptStore, attempts: number, within: WithinStoreTime) {
    this.#store = store
    this.#within = within
    this.#aloneFrom = Math.min(ALONE_FROM, attempts)
  }

  /** Suspects come in slices of one. */
  count(slice: readonly Held[]): Eventually<void> {
    const held = slice[0] as Held
    if (!held.suspect || held.outcome !== null || held.startCounted) return undefined
    return this.#inTurn(held)
  }

  /** Its try is over, however it ended: the next suspect may be counted. */
  ended(held: Held): void {
    this.#leaving.get(held)?.()
    this.#leaving.delete(held)
  }

  /** It was finished; a count that stays behind by a failure here does no harm. */
  forget(held: Held): void {
    if (held.starts === 0) return
    this.#store.finished(held.topic.consumer, held.identity as string).catch(() => undefined)
  }

  async #inTurn(held: Held): Promise<void> {
    const turn = this.#turn
    let leave = (): void => undefined
    this.#turn = new Promise((resolve) => {
      leave = resolve
    })
    await turn
    await this.#count(held)
    if (held.startCounted && held.starts >= this.#aloneFrom) this.#leaving.set(held, leave)
    else leave()
  }

  async #count(held: Held): Promise<void> {
    try {
      const { topic, identity } = held
      const count = (): Promise<number> => this.#store.started(topic.consumer, identity as string)
      held.starts = await this.#within(count, 'counting a start')
      held.startCounted = true
    } catch (thrown) {
      held.outcome = { kind: 'unavailable', error: asError(thrown) }
    }
  }
}
