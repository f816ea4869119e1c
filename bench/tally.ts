import type { Order } from './payload.ts'

/** So many keys take turns, as the last digits of an order say. */
const KEYS = 10_000
/** Whoever gets nothing new for so long has lost something. */
const STALLED_MS = 30_000

/**
 * Counts what a consumer handles, and fails it for what it lost and for a key whose orders came in
 * another order than they were published in. What comes again is allowed, and not counted.
 */
export class Tally {
  /** Resolves when everything was handled. */
  readonly all: Promise<void>
  /** Resolves when the first of them were handled that do not count: it runs as it will go on. */
  readonly warm: Promise<void>
  readonly #expected: number
  readonly #skipped: number
  /** By key. */
  readonly #next = Int32Array.from({ length: KEYS }, (_, key) => key)
  readonly #watch: NodeJS.Timeout
  #handled = 0
  #handledBefore = 0
  #resolveAll: () => void = () => undefined
  #resolveWarm: () => void = () => undefined
  #reject: (error: Error) => void = () => undefined

  constructor(expected: number, skipped: number) {
    this.#expected = expected
    this.#skipped = skipped
    const failed = new Promise<never>((_, reject) => (this.#reject = reject))
    this.all = Promise.race([failed, new Promise<void>((done) => (this.#resolveAll = done))])
    this.warm = Promise.race([failed, new Promise<void>((done) => (this.#resolveWarm = done))])
    // Whoever waits for one of them is told; the other one is nobody's.
    this.all.catch(() => undefined)
    this.warm.catch(() => undefined)
    this.#watch = setInterval(() => this.#look(), STALLED_MS)
  }

  /** Handled so far, the first ones included. */
  get handled(): number {
    return this.#handled
  }

  /** This one was handled. */
  readonly handle = (order: Order): void => {
    const number = Number(order.order.slice(2))
    const key = number % KEYS
    const next = this.#next[key] as number
    if (number < next) return
    if (number > next) return this.fail(new Error(`order ${number} came before ${next}`))
    this.#next[key] = next + KEYS
    this.count(1)
  }

  /** So many were handled by somebody who does not look at them. */
  count(messages: number): void {
    const before = this.#handled
    this.#handled += messages
    if (before < this.#skipped && this.#handled >= this.#skipped) this.#resolveWarm()
    if (before < this.#expected && this.#handled >= this.#expected) this.#resolveAll()
  }

  fail(error: Error): void {
    this.#reject(error)
  }

  /** Nobody looks at it any more. */
  end(): void {
    clearInterval(this.#watch)
  }

  #look(): void {
    if (this.#handled === this.#handledBefore) {
      const of = `${this.#handled} of ${this.#expected}`
      this.fail(new Error(`nothing came for ${STALLED_MS / 1_000} s after ${of} messages`))
    }
    this.#handledBefore = this.#handled
  }
}
