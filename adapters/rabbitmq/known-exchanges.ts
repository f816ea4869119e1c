/** Names remembered at most; beyond it every exchange counts as one that was there. */
const MOST_EXCHANGES = 1_000

/**
 * Exchanges that the broker has answered for. One that is missing now and was there before may have taken
 * messages whose confirms were lost; of one that never was nobody has.
 */
export class KnownExchanges {
  readonly #names = new Set<string>()
  #isFull = false

  /** `null`: more than anybody has counted. */
  learn(names: readonly string[] | null): void {
    if (names === null || this.#names.size + names.length > MOST_EXCHANGES) this.#isFull = true
    else for (const name of names) this.#names.add(name)
  }

  /** Whether it may have been there. */
  has(name: string): boolean {
    return this.#isFull || this.#names.has(name)
  }
}
