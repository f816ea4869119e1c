import type { Cancel, Clock, Random } from '../../src/contract/clock.ts'
import type { Credentials } from './options.ts'

/** What keeping a token fresh needs. */
export interface TokenRefreshOptions {
  readonly clock: Clock
  readonly random: Random
  /** Asked for the next token. */
  readonly ask: () => Promise<Credentials>
  /** Hands the token to the broker; rejects by a deadline of its own. */
  readonly update: (token: string) => Promise<void>
  /** The old token runs out and no new one was accepted: connect again. */
  readonly failed: (cause: unknown) => void
}

/** A provider whose tokens hardly live is not asked more often than that. */
const SOONEST_MS = 500
/** Longest part of a token's life that is waited before asking for the next. */
const LATEST = 0.8
/** Chance takes up to this part of the life off, so that many connections do not ask at once. */
const JITTER = 0.1

/** Hands new tokens to one open connection, one at a time, until stopped. */
export class TokenRefresh {
  readonly #options: TokenRefreshOptions
  #cancel: Cancel | null = null
  #stopped = false

  constructor(options: TokenRefreshOptions) {
    this.#options = options
  }

  /** Waits for the next refresh of these; does nothing for those that never expire. */
  follow(credentials: Credentials): void {
    const lifeMs = 'expiresInMs' in credentials ? credentials.expiresInMs : undefined
    if (this.#stopped || lifeMs === undefined) return
    const { clock, random } = this.#options
    const share = LATEST - JITTER * random.next()
    const inMs = Math.max(SOONEST_MS, lifeMs * share)
    this.#cancel = clock.after(inMs, () => void this.#refresh())
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
  }

  async #refresh(): Promise<void> {
    const { ask, update, failed } = this.#options
    try {
      const credentials = await ask()
      if (this.#stopped) return
      if ('password' in credentials) await update(credentials.password)
      this.follow(credentials)
    } catch (error) {
      if (!this.#stopped) failed(error)
    }
  }
}
