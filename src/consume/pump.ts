import { AsyncResource } from 'node:async_hooks'

import type { Cancel, Clock } from '../contract/clock.ts'
import type { Breaker } from '../policy/circuit-breaker.ts'
import type { Held } from './held.ts'
import type { Holdings } from './holdings.ts'
import type { Lanes } from './lanes.ts'
import type { Eventually } from './value-or-promise.ts'

/** What pumping needs. */
export interface PumpOptions {
  readonly lanes: Lanes
  readonly holdings: Holdings
  /** Slices at once. */
  readonly concurrency: number
  /** Most deliveries of a slice. */
  readonly sliceSize: number
  /** How long an incomplete batch waits for more; `null`: slices take what is there. */
  readonly batchWaitMs: number | null
  /** All of a slice come from one lane. */
  readonly oneLane: boolean
  readonly breaker: Breaker | null
  /** Handles one slice; does not throw or reject for reasons of a message. */
  readonly process: (slice: readonly Held[], generation: number) => Eventually<void>
  /** Something went wrong that is nobody's fault but ours. */
  readonly broken: (slice: readonly Held[], thrown: unknown) => void
  readonly onIdle: () => void
  readonly clock: Clock
}

/** Slices handled in one turn of the event loop before others get theirs. */
const TURN = 512

/** Takes slices from the lanes and has them processed, so many at once. */
export class Pump {
  readonly #options: PumpOptions
  /** Runs where the consumer was started, not where somebody happened to resume it or a handler ended. */
  readonly #runSoon: () => void
  #open = false
  #running = 0
  #isScheduled = false
  /** Adapts to the handler: halved when a transaction took too long, doubled when it was full. */
  #size: number
  #batchIsDue = false
  #batchTimer: Cancel | null = null

  constructor(options: PumpOptions) {
    this.#options = options
    this.#size = options.sliceSize
    this.#runSoon = AsyncResource.bind(() => this.#run())
  }

  /** Slices that have not ended, those of handlers that ignore their deadline included. */
  get running(): number {
    return this.#running
  }

  open(): void {
    this.#open = true
    this.schedule()
  }

  /** Nothing starts any more; what runs goes on. */
  shut(): void {
    this.#open = false
    this.#batchTimer?.()
    this.#batchTimer = null
  }

  /** Looks for work soon: after what is happening now, before the next turn. */
  schedule(): void {
    if (this.#isScheduled || !this.#open) return
    this.#isScheduled = true
    queueMicrotask(this.#runSoon)
  }

  #run(): void {
    this.#isScheduled = false
    for (let left = TURN; this.#mayStart(); left--) {
      if (left === 0) {
        this.#isScheduled = true
        return this.#options.clock.defer(() => this.#run())
      }
      const slice = this.#next()
      if (slice.length === 0) return
      this.#start(slice)
    }
  }

  #mayStart(): boolean {
    const { lanes, concurrency } = this.#options
    return this.#open && this.#running < concurrency && lanes.ready > 0
  }

  /** The next slice; empty when there is none, or none yet. */
  #next(): readonly Held[] {
    const { breaker, batchWaitMs, lanes } = this.#options
    if (batchWaitMs !== null && !this.#isBatchDue(batchWaitMs)) return []
    if (breaker !== null && breaker.state !== 'closed') return this.#probe(breaker)
    return lanes.take(this.#size, this.#heads())
  }

  /** While half-open one delivery that is held already finds out whether trying makes sense again. */
  #probe(breaker: Breaker): readonly Held[] {
    if (!breaker.admit()) return []
    const slice = this.#options.lanes.take(1)
    if (slice.length === 0) breaker.forgo()
    return slice
  }

  /** Lanes are shared out among the places that are free, so that slices do not cost parallelism. */
  #heads(): number {
    const { lanes, concurrency, batchWaitMs, oneLane } = this.#options
    if (oneLane) return 1
    if (batchWaitMs !== null) return this.#size
    return Math.min(this.#size, Math.ceil(lanes.ready / (concurrency - this.#running)))
  }

  #isBatchDue(waitMs: number): boolean {
    const { lanes, clock } = this.#options
    if (this.#batchIsDue || lanes.startable(this.#size) >= this.#size) {
      this.#batchIsDue = false
      this.#batchTimer?.()
      this.#batchTimer = null
      return true
    }
    this.#batchTimer ??= clock.after(waitMs, () => {
      this.#batchTimer = null
      this.#batchIsDue = true
      this.schedule()
    })
    return false
  }

  #start(slice: readonly Held[]): void {
    const { process, broken, breaker } = this.#options
    this.#running++
    let step: Eventually<void>
    try {
      step = process(slice, breaker?.generation ?? 0)
    } catch (thrown) {
      broken(slice, thrown)
      return this.#end(slice)
    }
    if (!(step instanceof Promise)) return this.#end(slice)
    step
      .catch((thrown: unknown) => broken(slice, thrown))
      .then(() => {
        this.#end(slice)
        this.#run()
      })
      .catch((thrown: unknown) => broken(slice, thrown))
  }

  /** The place is free again when every handler of the slice has really ended. */
  #end(slice: readonly Held[]): void {
    const first = slice[0] as Held
    if (slice.length > 1 || !hasEnded(first)) return this.#endEach(slice)
    this.#options.holdings.ended(first)
    this.#free(slice)
  }

  #endEach(slice: readonly Held[]): void {
    const { holdings } = this.#options
    let open = 1
    const end = (): void => {
      if (--open === 0) this.#free(slice)
    }
    for (const held of slice) {
      if (hasEnded(held)) {
        holdings.ended(held)
        continue
      }
      open++
      held.execution?.whenEnded(() => {
        holdings.ended(held)
        end()
        this.schedule()
      })
    }
    this.#adapt(slice)
    end()
  }

  #free(slice: readonly Held[]): void {
    this.#options.lanes.freed(slice)
    this.#running--
    if (this.#running === 0) this.#options.onIdle()
  }

  #adapt(slice: readonly Held[]): void {
    const { sliceSize, batchWaitMs } = this.#options
    if (sliceSize === 1 || batchWaitMs !== null || slice.length === 1) return
    if (slice.some(({ outcome, alone }) => outcome?.kind === 'deferred' && !alone)) {
      this.#size = Math.max(1, this.#size >> 1)
    } else if (slice.length === this.#size) {
      this.#size = Math.min(sliceSize, this.#size * 2)
    }
  }
}

function hasEnded({ execution }: Held): boolean {
  return execution === null || execution.ended
}
