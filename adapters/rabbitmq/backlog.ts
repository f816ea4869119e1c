import type { ConsumeMessage } from './client.ts'

/** Emptied places kept at the front before the rest is moved up. */
const MOST_EMPTY = 1_024

/** Messages that came and are not handed over, oldest first. Bounded by the prefetch of their consumer. */
export class Backlog {
  #messages: ConsumeMessage[] = []
  #from = 0

  get size(): number {
    return this.#messages.length - this.#from
  }

  get first(): ConsumeMessage | undefined {
    return this.#messages[this.#from]
  }

  add(message: ConsumeMessage): void {
    this.#messages.push(message)
  }

  removeFirst(): void {
    // What was handed over must not be kept from the garbage collector by its old place.
    this.#messages[this.#from++] = undefined as unknown as ConsumeMessage
    if (this.#from === this.#messages.length) {
      this.#messages = []
      this.#from = 0
    } else if (this.#from > MOST_EMPTY) {
      this.#messages.splice(0, this.#from)
      this.#from = 0
    }
  }

  /** Takes everything out. */
  drain(): readonly ConsumeMessage[] {
    const rest = this.#messages.slice(this.#from)
    this.#messages = []
    this.#from = 0
    return rest
  }
}
