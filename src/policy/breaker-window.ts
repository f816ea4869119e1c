import { EventEmitter } from 'node:events'

import CircuitBreaker from 'opossum'

import type { Clock } from '../contract/clock.ts'

/** The part of the breaker's options that decides when it opens. */
export interface WindowOptions {
  readonly volumeThreshold: number
  readonly errorThresholdPercentage: number
  readonly windowMs: number
}

const BUCKETS = 10
/** Longest delay Node's timers take: opossum's own reset timer must never fire. */
const NEVER_MS = 2_147_483_647

/**
 * One opossum circuit for one generation. It is fed with results only: the action it runs is the
 * result itself. A new state gets a new circuit, so a late result cannot close it, and none of
 * opossum's own timers decides anything: buckets are turned from our clock, the reset is ours.
 */
export class BreakerWindow {
  readonly #turns = new EventEmitter()
  readonly #clock: Clock
  readonly #bucketMs: number
  readonly #circuit: CircuitBreaker<[boolean], void>
  #turnedMs: number

  constructor(options: WindowOptions, clock: Clock, state: 'closed' | 'open' | 'half-open') {
    this.#clock = clock
    this.#turnedMs = clock.now()
    this.#bucketMs = options.windowMs / BUCKETS
    this.#circuit = new CircuitBreaker<[boolean], void>(result, {
      timeout: false,
      resetTimeout: NEVER_MS,
      volumeThreshold: options.volumeThreshold,
      errorThresholdPercentage: options.errorThresholdPercentage,
      rollingCountTimeout: options.windowMs,
      rollingCountBuckets: BUCKETS,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      rotateBucketController: this.#turns,
      ...(state === 'half-open' ? { state: halfOpen } : {}),
    })
  }

  /** Whether the circuit is closed now. */
  success(): boolean {
    this.#turn()
    void this.#circuit.fire(true)
    return this.#circuit.closed
  }

  /** Whether the circuit is open now. */
  failure(): boolean {
    this.#turn()
    this.#circuit.fire(false).catch(() => undefined)
    return this.#circuit.opened
  }

  close(): void {
    this.#circuit.shutdown()
  }

  #turn(): void {
    const passed = Math.floor((this.#clock.now() - this.#turnedMs) / this.#bucketMs)
    for (let turn = Math.min(passed, BUCKETS); turn > 0; turn--) this.#turns.emit('rotate')
    this.#turnedMs += passed * this.#bucketMs
  }
}

const halfOpen = { enabled: true, closed: false, halfOpen: true, warmUp: false, shutdown: false }

const failed = new Error('a failure was reported')

/** A thenable that answers at once: opossum then counts within the call, without a promise. */
const worked = {
  // oxlint-disable-next-line unicorn/no-thenable -- being one is its purpose
  then(done: () => void) {
    done()
    return { catch: () => undefined }
  },
} as unknown as Promise<void>

function result(success: boolean): Promise<void> {
  if (success) return worked
  throw failed
}
