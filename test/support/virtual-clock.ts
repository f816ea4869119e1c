import type { Cancel, Clock } from '../../src/contract/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly task: () => void
}

const HOUR_MS = 3_600_000

/**
 * Time that stands still until a test moves it. Promises settle by themselves between two steps, so a
 * test never sleeps: `await clock.advance(50)`, or `await clock.run(work)` to jump from timer to timer
 * until some work has ended. `timers` is 0 when nothing was leaked.
 */
export class VirtualClock implements Clock {
  readonly #wallStartMs: number
  readonly #timers = new Map<number, Timer>()
  #nowMs = 0
  #lastTimer = 0
  #deferred: (() => void)[] = []

  constructor(wallStartMs = 1_700_000_000_000) {
    this.#wallStartMs = wallStartMs
  }

  /** Timers that are still armed. */
  get timers(): number {
    return this.#timers.size
  }

  now(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#wallStartMs + this.#nowMs
  }

  after(ms: number, task: () => void): Cancel {
    const id = ++this.#lastTimer
    this.#timers.set(id, { dueMs: this.#nowMs + Math.max(0, ms), task })
    return () => void this.#timers.delete(id)
  }

  defer(task: () => void): void {
    this.#deferred.push(task)
  }

  /** Lets promises and deferred tasks run until nothing is left to do at this instant. */
  async settle(): Promise<void> {
    for (;;) {
      await turn()
      if (this.#deferred.length === 0) return
      this.#runDeferred()
    }
  }

  /** Moves time by `ms`, running every timer due on the way at its own instant, in order. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms
    await this.settle()
    while (this.#fireNext(untilMs)) await this.settle()
    this.#nowMs = untilMs
    await this.settle()
  }

  /** Jumps from timer to timer until the work has ended; fails when it takes longer than `limitMs` of virtual time. */
  async run<T>(work: Promise<T>, limitMs: number = HOUR_MS): Promise<T> {
    let ended = false
    const end = (): void => void (ended = true)
    work.then(end, end)
    await this.until(() => ended, limitMs, 'the work')
    return work
  }

  /** Jumps from timer to timer until the condition holds; fails when it takes longer than `limitMs` of virtual time. */
  async until(
    condition: () => boolean,
    limitMs: number = HOUR_MS,
    what = 'a condition',
  ): Promise<void> {
    const untilMs = this.#nowMs + limitMs
    await this.settle()
    while (!condition()) {
      if (!this.#fireNext(untilMs)) {
        throw new Error(
          `${what} did not come within ${limitMs} ms; ${this.timers} timers are armed`,
        )
      }
      await this.settle()
    }
  }

  /** Keeps jumping from timer to timer in the background until stopped; for tests whose own steps await real promises. */
  auto(): () => void {
    let stopped = false
    const step = async (): Promise<void> => {
      while (!stopped) {
        await this.settle()
        if (!stopped && !this.#fireNext(Number.POSITIVE_INFINITY)) await turn()
      }
    }
    void step()
    return () => void (stopped = true)
  }

  #runDeferred(): void {
    const tasks = this.#deferred
    this.#deferred = []
    for (const task of tasks) task()
  }

  /** Runs the earliest timer due by then; of equal ones the one armed first. */
  #fireNext(untilMs: number): boolean {
    let next: [number, Timer] | null = null
    for (const entry of this.#timers) {
      if (entry[1].dueMs <= untilMs && (next === null || entry[1].dueMs < next[1].dueMs))
        next = entry
    }
    if (next === null) return false
    this.#timers.delete(next[0])
    this.#nowMs = Math.max(this.#nowMs, next[1].dueMs)
    next[1].task()
    return true
  }
}

/** One turn of the real event loop: everything promises have to do is done by then. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
