import type { BrokerState } from '../../src/contract/broker.ts'
import type { Health } from './supervisor.ts'

/** How one wire is. */
interface Part {
  readonly health: Health
  readonly reason: string | null
}

const UP: BrokerState = Object.freeze({ status: 'up', reason: null })

/**
 * One state from those of all wires: down when none is up, blocked when the broker stopped one, degraded
 * when one is away or a group misses its messages.
 */
export class WireHealth {
  readonly #parts = new Map<string, Part>()
  readonly #missing: () => string | null
  readonly #changed: (state: BrokerState) => void
  #state: BrokerState = UP
  #isOver = false

  constructor(missing: () => string | null, changed: (state: BrokerState) => void) {
    this.#missing = missing
    this.#changed = changed
  }

  get state(): BrokerState {
    return this.#state
  }

  /** Says how a wire is now; true when it came up again after it was away. */
  set(name: string, health: Health, reason: string | null): boolean {
    const before = this.#parts.get(name)
    this.#parts.set(name, { health, reason })
    this.refresh()
    return health !== 'connecting' && before?.health === 'connecting' && before.reason !== null
  }

  /** A wire that was closed on purpose does not count any more. */
  forget(name: string): void {
    this.#parts.delete(name)
    this.refresh()
  }

  /** Nothing is told from now on. */
  end(): void {
    this.#isOver = true
  }

  /** What is missing may have changed. */
  refresh(): void {
    if (this.#isOver) return
    const state = this.#now()
    if (state.status === this.#state.status && state.reason === this.#state.reason) return
    this.#state = state
    this.#changed(state)
  }

  #now(): BrokerState {
    const parts = [...this.#parts.values()]
    const away = parts.find(({ health, reason }) => health === 'connecting' && reason !== null)
    if (parts.every(({ health }) => health === 'connecting')) {
      return { status: 'down', reason: away?.reason ?? 'connecting' }
    }
    const blocked = parts.find(({ health }) => health === 'blocked')
    if (blocked !== undefined) return { status: 'blocked', reason: blocked.reason }
    if (away !== undefined) return { status: 'degraded', reason: away.reason }
    const missing = this.#missing()
    return missing === null ? UP : { status: 'degraded', reason: missing }
  }
}
