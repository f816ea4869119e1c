/** A point that is passed once somebody opens it. */
export class Gate {
  readonly passed: Promise<void>
  #let: (() => void) | null = null

  constructor() {
    this.passed = new Promise((resolve) => {
      this.#let = resolve
    })
  }

  open(): void {
    this.#let?.()
  }
}
