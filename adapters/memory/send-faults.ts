import type { ErrorCode } from '../../src/contract/errors.ts'
import type { Random } from '../../src/contract/clock.ts'
import type { Envelope } from '../../src/contract/message.ts'

/** What becomes of an envelope that is about to be written. */
export type Fate =
  | { readonly kind: 'store' }
  | { readonly kind: 'refuse'; readonly code: ErrorCode; readonly retryable: boolean }
  | { readonly kind: 'unknown'; readonly stored: boolean }
  | { readonly kind: 'unwritten' }
  /** Infinity: not before the fault ends. */
  | { readonly kind: 'late'; readonly ms: number }

/** A fault that was switched on. A test that never saw its fault proves nothing: look at `hits`. */
export interface Fault {
  /** How often it has happened. */
  readonly hits: number
  /** Switches it off; what it held back goes on. Idempotent. */
  end(): void
}

/** Which envelopes, and how many of them. */
export interface Aim {
  /** Default: all. */
  readonly match?: (envelope: Envelope) => boolean
  /** Default: 1; for faults that hold something back: until ended. */
  readonly times?: number
}

const STORE: Fate = Object.freeze({ kind: 'store' })

/** The faults of sending that are switched on now. */
export class SendFaults {
  /** False on the way without faults, which asks nothing else. */
  active = false
  readonly #resume: () => void
  #rules: readonly Rule[] = []
  #shuffle: Random | null = null

  constructor(resume: () => void) {
    this.#resume = resume
  }

  add(fate: Fate, { match = () => true, times = 1 }: Aim): Fault {
    const rule = new Rule(fate, match, times, () => {
      this.#remove(rule)
      this.#resume()
    })
    this.#rules = [...this.#rules, rule]
    this.active = true
    return rule
  }

  /** From now on the envelopes of a send are stored in any order, as a broker without key runs may. */
  shuffle(random: Random | null): void {
    this.#shuffle = random
    this.active = random !== null || this.#rules.length > 0
  }

  /** To be asked once for each envelope: it counts. */
  fateOf(envelope: Envelope): Fate {
    for (const rule of this.#rules) {
      if (!rule.applies(envelope)) continue
      if (rule.spent) this.#remove(rule)
      return rule.fate
    }
    return STORE
  }

  /** False while a fault holds back answers for such an envelope. */
  answers(envelope: Envelope): boolean {
    return !this.#rules.some(({ fate, match }) => fate.kind === 'late' && match(envelope))
  }

  /** The indexes of the range in the order in which they are written. */
  order(from: number, to: number): number[] {
    const order = Array.from({ length: to - from }, (_, index) => from + index)
    const random = this.#shuffle
    if (random === null) return order
    for (let at = order.length - 1; at > 0; at--) {
      const other = Math.floor(random.next() * (at + 1))
      const kept = order[at] as number
      order[at] = order[other] as number
      order[other] = kept
    }
    return order
  }

  #remove(rule: Rule): void {
    this.#rules = this.#rules.filter((one) => one !== rule)
    this.active = this.#shuffle !== null || this.#rules.length > 0
  }
}

class Rule implements Fault {
  readonly fate: Fate
  readonly match: (envelope: Envelope) => boolean
  readonly #end: () => void
  #left: number
  #hits = 0
  #ended = false

  constructor(fate: Fate, match: (envelope: Envelope) => boolean, times: number, end: () => void) {
    this.fate = fate
    this.match = match
    this.#left = times
    this.#end = end
  }

  get hits(): number {
    return this.#hits
  }

  get spent(): boolean {
    return this.#left <= 0
  }

  applies(envelope: Envelope): boolean {
    if (this.#ended || !this.match(envelope)) return false
    this.#left--
    this.#hits++
    return true
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#end()
  }
}
