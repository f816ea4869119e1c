/** `up` is towards the broker, `down` towards the client. */
export type Direction = 'up' | 'down'

/** One fault that is being made, and how often it has happened. */
export class Fault {
  readonly name: string
  #fired = 0
  #heal: (() => void) | null
  readonly #onFired: (name: string) => void

  constructor(name: string, heal: () => void, onFired: (name: string) => void) {
    this.name = name
    this.#heal = heal
    this.#onFired = onFired
  }

  /** How many frames, chunks or connections it has struck. */
  get fired(): number {
    return this.#fired
  }

  strike(): void {
    this.#fired++
    this.#onFired(this.name)
  }

  /** Ends it; calling it again does nothing. */
  heal(): void {
    this.#heal?.()
    this.#heal = null
  }
}

/** A fault that strikes single frames: those that match, until it has struck often enough. */
export class Rule<Seen, Action> {
  readonly fault: Fault
  readonly action: Action
  readonly #matches: (seen: Seen) => boolean
  #left: number

  constructor(fault: Fault, matches: (seen: Seen) => boolean, action: Action, count: number) {
    this.fault = fault
    this.action = action
    this.#left = count
    this.#matches = matches
  }

  /** True when the frame is one of its: it has fired then. */
  takes(seen: Seen): boolean {
    if (this.#left === 0 || !this.#matches(seen)) return false
    this.#left--
    this.fault.strike()
    return true
  }
}

/** The rules in force, the oldest first; one frame is struck by one rule. */
export class Rules<Seen, R extends Rule<Seen, unknown>> {
  readonly #all = new Set<R>()

  add(rule: R): void {
    this.#all.add(rule)
  }

  remove(rule: R): void {
    this.#all.delete(rule)
  }

  /** The rule that strikes this frame; it counts as fired. */
  first(seen: Seen): R | null {
    for (const rule of this.#all) if (rule.takes(seen)) return rule
    return null
  }
}
