import type { Mark } from './confirm-ledger.ts'
import type { MethodName } from './amqp-methods.ts'

/** `up` is towards the broker, `down` towards the client. */
export type Direction = 'up' | 'down'

/** A method on its way, as far as the proxy can tell. */
export interface Seen {
  readonly direction: Direction
  readonly channel: number
  readonly method: MethodName
  /** Of `basic.publish`, `basic.deliver` and `basic.return`. */
  readonly exchange: string | null
  readonly routingKey: string | null
  /** Of `basic.consume`, and of `basic.deliver` to a consumer the proxy saw starting. */
  readonly queue: string | null
}

/** Which frames a rule is about. */
export type Match = MethodName | ((seen: Seen) => boolean)

/** What happens to a frame, and to the content that belongs to it. */
export type Action =
  /** It never arrives. Not for `basic.publish` on a confirm channel: the two sides would count differently. */
  | { readonly do: 'drop' }
  /** It arrives later, and so does what follows it on its channel. */
  | { readonly do: 'delay'; readonly ms: number }
  /** For `basic.publish`: it arrives, and the client never hears of it. */
  | { readonly do: 'lose-confirm' }
  /** For `basic.publish`: it arrives, and the client hears of it when the rule ends. */
  | { readonly do: 'hold-confirm' }
  /** It arrives; then its channel is closed, for the client by the broker, for the broker by the client. */
  | { readonly do: 'close-channel'; readonly code: number; readonly text: string }
  /** It does not arrive: both sides find the connection reset. */
  | { readonly do: 'reset' }

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

/** A fault that strikes single frames. */
export class Rule implements Mark {
  readonly fault: Fault
  readonly action: Action
  readonly #matches: (seen: Seen) => boolean
  #left: number

  constructor(fault: Fault, match: Match, action: Action, count: number) {
    this.fault = fault
    this.action = action
    this.#left = count
    this.#matches = typeof match === 'function' ? match : ({ method }) => method === match
  }

  get fate(): Mark['fate'] {
    return this.action.do === 'hold-confirm' ? 'hold' : 'lose'
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
export class Rules {
  readonly #all = new Set<Rule>()

  add(rule: Rule): void {
    this.#all.add(rule)
  }

  remove(rule: Rule): void {
    this.#all.delete(rule)
  }

  /** The rule that strikes this frame; it counts as fired. */
  first(seen: Seen): Rule | null {
    for (const rule of this.#all) if (rule.takes(seen)) return rule
    return null
  }
}
