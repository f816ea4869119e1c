import type { BrokerState } from '../../src/contract/broker.ts'

/** How one part reaches the cluster: 'weak' still works, and something of it does not. */
export type Health = 'up' | 'weak' | 'away'

/** How a part says how it is; called as often as it likes. `reason` is `null` when it is up. */
export type TellHealth = (health: Health, reason: string | null) => void

const UP: BrokerState = Object.freeze({ status: 'up', reason: null })

/** One state from those of all parts: down when all are away, degraded when one is weak or away. Told on changes. */
export class PartsHealth {
  readonly #parts = new Map<string, { readonly health: Health; readonly reason: string | null }>()
  readonly #changed: (state: BrokerState) => void
  #state: BrokerState | null = null
  #isOver = false

  constructor(changed: (state: BrokerState) => void) {
    this.#changed = changed
  }

  /** How the part of that name says how it is. */
  tell(name: string): TellHealth {
    return (health, reason) => {
      this.#parts.set(name, { health, reason })
      this.#refresh()
    }
  }

  /** A part that was closed on purpose does not count any more. */
  forget(name: string): void {
    this.#parts.delete(name)
    this.#refresh()
  }

  /** Nothing is told from now on. */
  end(): void {
    this.#isOver = true
  }

  #refresh(): void {
    if (this.#isOver) return
    const state = this.#now()
    // The reason that came first stays: each try has its own, and none of them is news.
    if (state.status === this.#state?.status) return
    this.#state = state
    this.#changed(state)
  }

  #now(): BrokerState {
    const parts = [...this.#parts.values()]
    const worst = parts.find(({ health }) => health === 'away')
    const weak = worst ?? parts.find(({ health }) => health === 'weak')
    if (weak === undefined) return UP
    const isDown = parts.every(({ health }) => health === 'away')
    return { status: isDown ? 'down' : 'degraded', reason: weak.reason }
  }
}
