import type { BrokerState } from '../../src/contract/broker.ts'

const UP: BrokerState = Object.freeze({ status: 'up', reason: null })
/** Shorter waits for another process are the normal life of a shared file. */
const BLOCKED_AFTER_MS = 1_000

/** How writing to a file goes: up, blocked by another process, or failing. */
export class WriterHealth {
  readonly #listeners = new Set<(state: BrokerState) => void>()
  #state = UP

  get state(): BrokerState {
    return this.#state
  }

  /** Called on every change; returns how to stop. */
  onChange(listener: (state: BrokerState) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  up(): void {
    if (this.#state.status !== 'up') this.#become(UP)
  }

  busy(forMs: number): void {
    if (forMs < BLOCKED_AFTER_MS || this.#state.status !== 'up') return
    this.#become({ status: 'blocked', reason: 'another process holds the lock of the file' })
  }

  down(reason: string): void {
    if (this.#state.reason !== reason) this.#become({ status: 'down', reason })
  }

  #become(state: BrokerState): void {
    this.#state = state
    for (const listener of this.#listeners) listener(state)
  }
}
