/** Stops what it was handed out for; calling it again does nothing. */
export type Cancel = () => void

/**
 * The only way holdfast reads time or waits. Tests and the simulation pass their own; `systemClock` is
 * the one place that touches the real one.
 */
export interface Clock {
  /** Monotonic milliseconds from an arbitrary start; for deadlines and durations. */
  now(): number
  /** Unix milliseconds; for timestamps that leave the process, never for durations. */
  wallMs(): number
  /** Runs `task` once after at least `ms` milliseconds, unless cancelled. Keeps the process alive. */
  after(ms: number, task: () => void): Cancel
  /** Runs `task` in the next turn of the event loop, after the microtasks that are due now. */
  defer(task: () => void): void
}

/** Chance as holdfast uses it: jitter, shuffles and ids. */
export interface Random {
  /** A number in [0, 1). */
  next(): number
  /** Fills the array with random bytes; for ids, so it must be good enough to be unique. */
  fill(bytes: Uint8Array): void
}

/** Longest delay a Node timer takes without firing at once. */
const LONGEST_TIMER_MS = 2_147_483_647

function after(ms: number, task: () => void): Cancel {
  const due = performance.now() + ms
  let timer = setTimeout(fire, Math.min(Math.max(ms, 0), LONGEST_TIMER_MS))
  // Node's timers round to whole milliseconds and may fire up to one early: wait out the rest, a
  // delay is never early. The same step chains delays beyond the longest timer.
  function fire(): void {
    const left = due - performance.now()
    if (left <= 0) task()
    else timer = setTimeout(fire, Math.min(Math.ceil(left), LONGEST_TIMER_MS))
  }
  return () => clearTimeout(timer)
}

/** The machine's own clock. */
export const systemClock: Clock = Object.freeze({
  now: () => performance.now(),
  wallMs: () => Date.now(),
  after,
  defer: (task: () => void) => void setImmediate(task),
})

/** The machine's own randomness: `Math.random` for jitter, the cryptographic source for ids. */
export const systemRandom: Random = Object.freeze({
  next: () => Math.random(),
  fill: (bytes: Uint8Array) => void crypto.getRandomValues(bytes),
})

/** Resolves after at least `ms` milliseconds, or rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason as Error)
    const abort = (): void => {
      cancel()
      reject(signal?.reason as Error)
    }
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', abort)
      resolve()
    })
    signal?.addEventListener('abort', abort, { once: true })
  })
}
