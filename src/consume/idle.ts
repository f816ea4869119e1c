/** Lets others wait until nothing is going on. */
export class Idle {
  readonly #isIdle: () => boolean
  #waiting: (() => void)[] = []

  constructor(isIdle: () => boolean) {
    this.#isIdle = isIdle
  }

  /** Called whenever something ended. */
  look(): void {
    if (this.#waiting.length === 0 || !this.#isIdle()) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const go of waiting) go()
  }

  wait(): Promise<void> {
    if (this.#isIdle()) return Promise.resolve()
    return new Promise((resolve) => void this.#waiting.push(resolve))
  }
}
