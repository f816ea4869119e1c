import type { Clock, Random } from '../contract/clock.ts'
import type { Emit } from '../contract/events.ts'
import { exponential } from '../policy/backoff.ts'
import { withDeadline } from '../policy/deadline.ts'
import { retry } from '../policy/retry.ts'
import type { Wake } from '../policy/wake.ts'

/** What steady calls need. */
export interface SteadyOptions {
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  /** How long one try of a call may take, in milliseconds. */
  readonly timeoutMs: number
  /** Ends waiting and trying again. */
  readonly signal: AbortSignal
}

/** Work that comes back in rounds. */
export interface Job {
  readonly name: string
  readonly wake: Wake
  /** One round; returns how long to sleep after it, in milliseconds. */
  readonly round: () => Promise<number>
  readonly ended: () => boolean
}

const AFTER_FAILURE_MS = 1_000
const backoff = exponential({ initialMs: 100, maxMs: 5_000 })

/** Calls to the store that are tried until they work or the relay stops; each failure is an event. */
export class Steady {
  readonly #options: SteadyOptions

  constructor(options: SteadyOptions) {
    this.#options = options
  }

  /** Rejects only with the signal's reason. A try that takes too long is given up; its result is lost. */
  call<T>(step: string, work: () => Promise<T>): Promise<T> {
    const { clock, random, timeoutMs, signal } = this.#options
    const once = (): Promise<T> => withDeadline(clock, clock.now() + timeoutMs, work, step)
    return retry(once, {
      attempts: Number.POSITIVE_INFINITY,
      backoff,
      clock,
      random,
      signal,
      onRetry: (error) => this.#tell(step, error),
    })
  }

  /** Rounds of one job, each followed by the sleep it asks for, until `ended` or stopped. Never rejects. */
  async rounds(job: Job): Promise<void> {
    const { signal } = this.#options
    while (!signal.aborted && !job.ended()) {
      await job.wake.sleep(await this.#round(job))
    }
  }

  /** Told unless it is the stop itself. */
  failed(step: string, error: unknown): void {
    if (!this.#options.signal.aborted) this.#tell(step, error)
  }

  async #round(job: Job): Promise<number> {
    try {
      return await job.round()
    } catch (error) {
      this.failed(job.name, error)
      return AFTER_FAILURE_MS
    }
  }

  #tell(step: string, reason: unknown): void {
    const error = reason instanceof Error ? reason : new Error(String(reason))
    this.#options.emit({ type: 'relay.error', step, error })
  }
}
