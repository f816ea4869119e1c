/** A value, and whoever wants to hear what it becomes. */
export class Observed<T> {
  readonly #listeners = new Set<(value: T) => void>()
  #value: T

  constructor(value: T) {
    this.#value = value
  }

  get value(): T {
    return this.#value
  }

  /** Tells everybody, also when it is the same. */
  become(value: T): void {
    this.#value = value
    for (const listener of this.#listeners) listener(value)
  }

  /** Called at once with the present value, then with every one that follows; returns how to stop. */
  listen(listener: (value: T) => void): () => void {
    this.#listeners.add(listener)
    listener(this.#value)
    return () => void this.#listeners.delete(listener)
  }
}
