import type { BrokerState } from '../../src/contract/broker.ts'
import { ClosedError } from '../../src/contract/errors.ts'

const UP: BrokerState = Object.freeze({ status: 'up', reason: null })
const NOT_OPEN: BrokerState = Object.freeze({ status: 'down', reason: 'not open' })

/** The state of one connection, and who wants to know it. */
export class Link {
  readonly #listeners = new Set<(state: BrokerState) => void>()
  readonly #waiting = new Set<(error?: Error) => void>()
  #state = NOT_OPEN
  #outage = false

  get state(): BrokerState {
    return this.#state
  }

  /** The broker cannot be reached; opening waits. */
  get outage(): boolean {
    return this.#outage
  }

  /** May something be written now? */
  get writable(): boolean {
    return this.#state.status === 'up' || this.#state.status === 'degraded'
  }

  /** Calls back at once and on every change; returns how to stop. */
  listen(listener: (state: BrokerState) => void): () => void {
    // A wrapper of its own, so that the same function may listen twice.
    const entry = (state: BrokerState): void => listener(state)
    this.#listeners.add(entry)
    listener(this.#state)
    return () => void this.#listeners.delete(entry)
  }

  /** Resolves when the broker can be reached; rejects when the signal aborts or the link is closed. */
  reachable(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => end(signal.reason as Error)
      const end = (error?: Error): void => {
        this.#waiting.delete(end)
        signal.removeEventListener('abort', abort)
        if (error === undefined) resolve()
        else reject(error)
      }
      if (signal.aborted) return abort()
      if (!this.#outage) return resolve()
      this.#waiting.add(end)
      signal.addEventListener('abort', abort, { once: true })
    })
  }

  up(): void {
    this.#set(UP)
  }

  turn(status: 'degraded' | 'blocked', reason: string): void {
    this.#set(Object.freeze({ status, reason }))
  }

  fail(reason: string): void {
    this.#outage = true
    this.#set(Object.freeze({ status: 'down', reason }))
  }

  recover(): void {
    this.#outage = false
    for (const end of [...this.#waiting]) end()
  }

  /** Closed on purpose: nobody is told, and nobody waits any more. */
  close(): void {
    this.#state = NOT_OPEN
    for (const end of [...this.#waiting]) end(new ClosedError('memory broker'))
  }

  #set(state: BrokerState): void {
    if (state.status === this.#state.status && state.reason === this.#state.reason) return
    this.#state = state
    for (const listener of [...this.#listeners]) listener(state)
  }
}
