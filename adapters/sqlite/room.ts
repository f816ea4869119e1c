/** What may still be handed over inside one claim. */
export interface Budget {
  messages: number
  bytes: number
}

/** The bound on deliveries handed over and not settled, of one receiver over all its topics. */
export class Room {
  readonly #max: { readonly messages: number; readonly bytes: number }
  #messages = 0
  #bytes = 0

  constructor(max: { readonly messages: number; readonly bytes: number }) {
    this.#max = max
  }

  took(bytes: number): void {
    this.#messages++
    this.#bytes += bytes
  }

  gave(bytes: number): void {
    this.#messages--
    this.#bytes -= bytes
  }

  get isHalfFree(): boolean {
    return this.#messages * 2 < this.#max.messages && this.#bytes * 2 < this.#max.bytes
  }

  /** What is free now; `null` when that is nothing. A body larger than all bytes goes alone. */
  budget(): Budget | null {
    const messages = this.#max.messages - this.#messages
    const bytes = this.#messages === 0 ? Infinity : this.#max.bytes - this.#bytes
    return messages > 0 && bytes > 0 ? { messages, bytes } : null
  }

  /** Takes a message's share; the first into an empty room may be of any size. */
  fits(budget: Budget, bytes: number): boolean {
    if (budget.messages < 1 || bytes > budget.bytes) return false
    budget.messages--
    budget.bytes = (budget.bytes === Infinity ? this.#max.bytes : budget.bytes) - bytes
    return true
  }
}
