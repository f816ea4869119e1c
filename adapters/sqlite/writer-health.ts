import type { BrokerState } from '../../src/contract/broker.ts'

const UP: BrokerState = Object.freeze({ status: 'up', reason: null })
/** Shorter waits for another process are the normal life of a shared file. */
const BLOCKED_AFTER_MS = 1_000

/**
 * How writing to a file goes: up, blocked by another process, or down; degraded while transactions
 * work and what somebody has to store in them does not.
 */
export class WriterHealth {
  readonly #listeners = new Set<(state: BrokerState) => void>()
  /** Of transactions as such. */
  #writing = UP
  readonly #failing = new Map<object, string>()
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
    if (this.#writing !== UP) this.#wrote(UP)
  }

  busy(forMs: number): void {
    if (forMs < BLOCKED_AFTER_MS || this.#writing !== UP) return
    this.#wrote({ status: 'blocked', reason: 'another process holds the lock of the file' })
  }

  down(reason: string): void {
    if (this.#writing.reason !== reason) this.#wrote({ status: 'down', reason })
  }

  /** Something of `whose` has failed for long, although transactions begin and commit. */
  degraded(whose: object, reason: string): void {
    this.#failing.set(whose, reason)
    this.#tell()
  }

  /** Ends `degraded`. */
  mended(whose: object): void {
    if (this.#failing.delete(whose)) this.#tell()
  }

  #wrote(state: BrokerState): void {
    this.#writing = state
    this.#tell()
  }

  #tell(): void {
    const state = this.#now()
    if (state.status === this.#state.status && state.reason === this.#state.reason) return
    this.#state = state
    for (const listener of this.#listeners) listener(state)
  }

  #now(): BrokerState {
    const [reason] = this.#failing.values()
    if (this.#writing !== UP || reason === undefined) return this.#writing
    return { status: 'degraded', reason }
  }
}
