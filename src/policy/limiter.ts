/** Runs pieces of work, at most so many at a time, the others in the order they came. */
export class Limiter {
  readonly #most: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(most: number) {
    this.#most = most
  }

  /** Settles as the work does; a failure frees the place too. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#most) this.#running++
    else await new Promise<void>((start) => this.#waiting.push(start))
    try {
      return await work()
    } finally {
      // The place is handed on, not freed, so that nobody who comes now gets in between.
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}
