import type { Cancel, Clock } from '../contract/clock.ts'
import { integerOption, refuseUnknownOptions } from '../contract/option.ts'
import { BreakerWindow } from './breaker-window.ts'

/** closed: everything may go. open: nothing may. half-open: one probe at a time may. */
export type BreakerState = 'closed' | 'open' | 'half-open'

/** Knows from outcomes whether trying makes sense at the moment. It never runs anything itself. */
export interface Breaker {
  readonly state: BreakerState
  /** Grows with every change of state; results of tries admitted in an older one are ignored. */
  readonly generation: number
  /** May one thing be tried now? While half-open, true once until that probe has ended. */
  admit(): boolean
  /** A try admitted in that generation (default: the present one) worked. */
  success(generation?: number): void
  /** A try admitted in that generation (default: the present one) failed in the way the breaker watches. */
  failure(generation?: number): void
  /** An admitted try ended without telling anything; a probe may be tried again. */
  forgo(generation?: number): void
  /** Opens at once, for a caller that knows, such as a lost connection. */
  trip(): void
  /** Closes at once, for a caller that knows, such as a connection that is back. */
  reset(): void
  /** Calls back after every change of state, and when a probe may be tried again; returns how to stop. */
  onChange(listener: (state: BreakerState) => void): () => void
  /** Stops its timers and listeners; it stays as it is. Idempotent. */
  close(): void
}

/** Options of `circuitBreaker`. */
export interface BreakerOptions {
  /** Results within the window before it may open. Default 20. */
  readonly volumeThreshold?: number
  /** Share of failures, in percent, above which it opens. Default 50. */
  readonly errorThresholdPercentage?: number
  /** How far back results count, in milliseconds. Default 10 000. */
  readonly windowMs?: number
  /** How long it stays open before a probe, in milliseconds. Default 1 000. */
  readonly resetMs?: number
  /** How long a probe may take before it counts as failed, in milliseconds. Default 10 000. */
  readonly probeMs?: number
}

/** Breaker options with every default filled in. */
export type ResolvedBreakerOptions = Required<BreakerOptions>

/** Fills in defaults; throws an `OptionError` for anything out of range. */
export function resolveBreakerOptions(given: BreakerOptions = {}): ResolvedBreakerOptions {
  refuseUnknownOptions('breaker', given, [
    'volumeThreshold',
    'errorThresholdPercentage',
    'windowMs',
    'resetMs',
    'probeMs',
  ])
  return Object.freeze({
    volumeThreshold: integerOption('breaker.volumeThreshold', given.volumeThreshold, 20, {
      min: 1,
    }),
    errorThresholdPercentage: integerOption(
      'breaker.errorThresholdPercentage',
      given.errorThresholdPercentage,
      50,
      { min: 1, max: 99 },
    ),
    windowMs: integerOption('breaker.windowMs', given.windowMs, 10_000, { min: 100 }),
    resetMs: integerOption('breaker.resetMs', given.resetMs, 1_000, { min: 1 }),
    probeMs: integerOption('breaker.probeMs', given.probeMs, 10_000, { min: 1 }),
  })
}

/** Successes between two failures beyond this change no verdict and are not counted one by one. */
const SUCCESSES_COUNTED = 100

/** A breaker whose verdicts are opossum's and whose time is the injected clock's. */
export function circuitBreaker(options: BreakerOptions | undefined, clock: Clock): Breaker {
  return new OpossumBreaker(resolveBreakerOptions(options), clock)
}

class OpossumBreaker implements Breaker {
  readonly #options: ResolvedBreakerOptions
  readonly #clock: Clock
  readonly #listeners = new Set<(state: BreakerState) => void>()
  #window: BreakerWindow
  #state: BreakerState = 'closed'
  #generation = 0
  #successes = 0
  #lastResultMs: number
  #probing = false
  #cancel: Cancel | null = null
  #closed = false

  constructor(options: ResolvedBreakerOptions, clock: Clock) {
    this.#options = options
    this.#clock = clock
    this.#lastResultMs = clock.now()
    this.#window = new BreakerWindow(options, clock, 'closed')
  }

  get state(): BreakerState {
    return this.#state
  }

  get generation(): number {
    return this.#generation
  }

  admit(): boolean {
    if (this.#state === 'closed') return true
    if (this.#state === 'open' || this.#probing) return false
    this.#probing = true
    // A probe that never ends would keep the breaker half-open for ever.
    const { generation } = this
    this.#arm(this.#options.probeMs, () => this.failure(generation))
    return true
  }

  success(generation: number = this.#generation): void {
    if (this.#closed || generation !== this.#generation) return
    if (this.#state === 'closed') {
      this.#successes++
      return
    }
    if (this.#state === 'half-open' && this.#window.success()) this.#enter('closed')
  }

  failure(generation: number = this.#generation): void {
    if (this.#closed || generation !== this.#generation || this.#state === 'open') return
    this.#countSuccesses()
    if (this.#window.failure()) this.#enter('open')
  }

  forgo(generation: number = this.#generation): void {
    if (generation !== this.#generation || this.#state !== 'half-open') return
    this.#disarm()
    this.#probing = false
    this.#tell()
  }

  trip(): void {
    if (this.#state !== 'open') this.#enter('open')
  }

  reset(): void {
    if (this.#state !== 'closed') this.#enter('closed')
  }

  onChange(listener: (state: BreakerState) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  close(): void {
    this.#closed = true
    this.#disarm()
    this.#window.close()
    this.#listeners.clear()
  }

  /**
   * Successes are only counted, and told to the window when a failure makes them matter: nothing per
   * message passes through the library. Those from before the window are forgotten.
   */
  #countSuccesses(): void {
    const now = this.#clock.now()
    const recent = now - this.#lastResultMs <= this.#options.windowMs
    const counted = recent ? Math.min(this.#successes, SUCCESSES_COUNTED) : 0
    for (let index = 0; index < counted; index++) this.#window.success()
    this.#successes = 0
    this.#lastResultMs = now
  }

  #enter(state: BreakerState): void {
    if (this.#closed) return
    this.#disarm()
    this.#state = state
    this.#generation++
    this.#probing = false
    this.#successes = 0
    this.#window.close()
    this.#window = new BreakerWindow(this.#options, this.#clock, state)
    if (state === 'open') this.#arm(this.#options.resetMs, () => this.#enter('half-open'))
    this.#tell()
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.#state)
  }

  #arm(ms: number, task: () => void): void {
    this.#disarm()
    this.#cancel = this.#clock.after(ms, task)
  }

  #disarm(): void {
    this.#cancel?.()
    this.#cancel = null
  }
}
