import type { DeadReason } from './dead-reasons.ts'

/** What opening, claiming and handling did with one delivery. A value: none of the steps throws. */
export type Outcome =
  /** Handled; with an inbox or a broker transaction also committed. */
  | { readonly kind: 'done' }
  /** An earlier transaction had the effect already. */
  | { readonly kind: 'duplicate' }
  /** Another transaction holds the id right now. */
  | { readonly kind: 'busy' }
  /** Not tried, or rolled back for a reason that is not its own: its turn comes again at once. */
  | { readonly kind: 'deferred' }
  /** Its handler gave up because its signal was aborted: shutdown, or the source is being taken away. */
  | { readonly kind: 'aborted' }
  /** A retry delay longer than the longest level, on its way through the levels: `ms` are left. */
  | { readonly kind: 'early'; readonly ms: number }
  /** The store or the broker could not be reached; says nothing about the message. */
  | { readonly kind: 'unavailable'; readonly error: Error }
  /** No handler can ever get it. */
  | { readonly kind: 'poison'; readonly reason: DeadReason; readonly error: Error }
  /** Its tries were used up before this one; the handler did not run. */
  | { readonly kind: 'exhausted' }
  /** The handler failed, ran out of time, or its commit did not happen or is unknown. */
  | { readonly kind: 'failed'; readonly error: Error }

/** What is to happen with a delivery. */
export type Verdict =
  | { readonly kind: 'ack' }
  /** Stays held in its lane for at least `ms`; `made` tries are behind it then. */
  | { readonly kind: 'wait'; readonly ms: number; readonly made: number }
  /** Travels through the broker for at least `ms`; `made` tries are behind it then. */
  | { readonly kind: 'retry'; readonly ms: number; readonly made: number }
  | { readonly kind: 'release' }
  /** Is stored with the group's dead letters; `made` tries are behind it. */
  | {
      readonly kind: 'dead'
      readonly reason: DeadReason
      readonly error: Error | null
      readonly made: number
    }
  | { readonly kind: 'discard'; readonly reason: DeadReason; readonly made: number }

/** The outcomes without facts of their own: one object each, so that the hot path makes none. */
export const DONE: Outcome = Object.freeze({ kind: 'done' })
export const DUPLICATE: Outcome = Object.freeze({ kind: 'duplicate' })
export const BUSY: Outcome = Object.freeze({ kind: 'busy' })
export const DEFERRED: Outcome = Object.freeze({ kind: 'deferred' })
export const ABORTED: Outcome = Object.freeze({ kind: 'aborted' })
export const EXHAUSTED: Outcome = Object.freeze({ kind: 'exhausted' })
