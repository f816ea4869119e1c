import type { Capabilities } from '../contract/capabilities.ts'
import type { Assignment, Held } from './held.ts'
import type { BlockedListener } from './lanes.ts'

/** The limit that came near. */
export type HoldLimit = 'messages' | 'age' | 'holes'

/** What is done at a limit; both are called once per change. */
export interface HoldLimitListener {
  full(assignment: Assignment, limit: HoldLimit): void
  room(assignment: Assignment): void
}

/** How much of a limit may be used before its source stops, so that in-flight deliveries still fit. */
const FULL = 0.75
/** How much may be used when it goes on; lower, so that it does not flap. */
const ROOM = 0.5
/** At this share of the longest hold a delivery is given back rather than taken away. */
const TOO_OLD = 0.95

/**
 * Watches what waits for failed deliveries against what broker and prefetch allow. Deliveries that
 * merely wait for their turn are no concern of its: intake is bounded by prefetch.
 */
export class HoldLimits implements BlockedListener {
  readonly #listener: HoldLimitListener
  readonly #held: { readonly messages: number; readonly bytes: number }
  readonly #ofSource: number
  readonly #holes: number
  readonly #maxMs: number
  readonly #full = new Map<Assignment, HoldLimit>()
  #messages = 0
  #bytes = 0

  constructor(
    { hold, progress }: Pick<Capabilities, 'hold' | 'progress'>,
    maxHeld: { readonly messages: number; readonly bytes: number },
    listener: HoldLimitListener,
  ) {
    this.#listener = listener
    this.#held = maxHeld
    this.#ofSource = hold.maxMessages
    this.#holes = holesOf(progress)
    this.#maxMs = hold.maxMs
  }

  blocked(held: Held): void {
    const { assignment } = held
    assignment.blocked++
    this.#messages++
    this.#bytes += sizeOf(held)
    const limit = this.#limitReached(assignment, FULL)
    if (limit !== null) this.#stop(assignment, limit)
  }

  unblocked(held: Held): void {
    const { assignment } = held
    assignment.blocked--
    this.#messages--
    this.#bytes -= sizeOf(held)
    if (this.#full.size > 0) this.#look()
  }

  /**
   * Compares ages with the longest hold: stops and starts sources in time, and returns what has to be
   * given back now. Called every so often with the sources there are.
   */
  tooOld(assignments: Iterable<Assignment>, now: number): Held[] {
    const old: Held[] = []
    for (const assignment of assignments) {
      const oldest = oldestAge(assignment, now)
      if (oldest >= this.#maxMs * FULL) this.#stop(assignment, 'age')
      else if (this.#full.get(assignment) === 'age') this.#go(assignment)
      if (oldest < this.#maxMs * TOO_OLD) continue
      for (const held of assignment.held) {
        if (now - held.sinceMs >= this.#maxMs * TOO_OLD) old.push(held)
      }
    }
    return old
  }

  /** Its source is gone. */
  forget(assignment: Assignment): void {
    this.#full.delete(assignment)
  }

  #look(): void {
    for (const [assignment, limit] of this.#full) {
      if (limit !== 'age' && this.#limitReached(assignment, ROOM) === null) this.#go(assignment)
    }
  }

  #stop(assignment: Assignment, limit: HoldLimit): void {
    if (this.#full.has(assignment)) return
    this.#full.set(assignment, limit)
    this.#listener.full(assignment, limit)
  }

  #go(assignment: Assignment): void {
    this.#full.delete(assignment)
    this.#listener.room(assignment)
  }

  #limitReached({ blocked }: Assignment, share: number): HoldLimit | null {
    if (blocked === 0) return null
    const { messages, bytes } = this.#held
    if (blocked >= this.#ofSource * share || this.#messages >= messages * share) return 'messages'
    if (this.#bytes >= bytes * share) return 'messages'
    return blocked >= this.#holes * share ? 'holes' : null
  }
}

/** How many gaps the broker can remember; without any memory for them the first one stops its source. */
function holesOf({ outOfOrder, maxHoles }: Capabilities['progress']): number {
  if (outOfOrder === 'any') return Number.POSITIVE_INFINITY
  return outOfOrder === 'encoded' ? maxHoles : 0
}

/** Deliveries are kept in the order they came. */
function oldestAge({ held }: Assignment, now: number): number {
  for (const { sinceMs } of held) return now - sinceMs
  return 0
}

function sizeOf({ delivery }: Held): number {
  return delivery.envelope.body?.byteLength ?? 0
}
