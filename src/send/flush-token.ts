/** Counts what a flush waits for, and says when the last of it has ended. */
export class FlushToken {
  readonly done: Promise<void>
  #left = 0
  #end: () => void = () => undefined

  constructor() {
    this.done = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  get left(): number {
    return this.#left
  }

  add(): void {
    this.#left++
  }

  remove(): void {
    if (--this.#left === 0) this.#end()
  }
}
