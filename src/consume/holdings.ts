import type { Source } from '../contract/broker.ts'
import { Assignment, type Held } from './held.ts'
import type { Lanes } from './lanes.ts'

/** Everything that is held, by the source it came from. */
export class Holdings {
  readonly #assignments = new Map<Source, Assignment>()
  readonly #lanes: Lanes

  constructor(lanes: Lanes) {
    this.#lanes = lanes
  }

  /** The sources that delivered something and were not lost since. */
  get assignments(): Iterable<Assignment> {
    return this.#assignments.values()
  }

  /** How many deliveries are held. */
  get size(): number {
    let size = 0
    for (const { held } of this.#assignments.values()) size += held.size
    return size
  }

  /** By identity: a source that was lost and assigned again is another one. */
  of(source: Source): Assignment {
    let assignment = this.#assignments.get(source)
    if (assignment === undefined) {
      assignment = new Assignment(source)
      this.#assignments.set(source, assignment)
    }
    return assignment
  }

  known(source: Source): Assignment | undefined {
    return this.#assignments.get(source)
  }

  add(held: Held, orderKey: string | null): void {
    held.assignment.held.add(held)
    this.#lanes.add(held, orderKey)
  }

  /** It is settled, or no longer ours. */
  remove(held: Held): void {
    const { assignment } = held
    assignment.held.delete(held)
    this.#lanes.remove(held)
    if (assignment.held.size === 0) assignment.onEmpty?.()
  }

  /** Its handler has really ended; what waited for that goes back when its source is being taken away. */
  ended(held: Held): void {
    this.#lanes.ended(held)
    if (held.assignment.leaving) this.giveBackWaiting(held.assignment)
  }

  /** Gives back everything of the source that no handler and no store has at the moment. */
  giveBackWaiting({ held: all }: Assignment): void {
    for (const held of [...all]) {
      if (!isWaiting(held)) continue
      held.delivery.release()
      this.remove(held)
    }
  }

  /** Gives it back with its followers, which would overtake it otherwise. */
  giveBack(held: Held): void {
    let next: Held | null = held
    while (next !== null) {
      const follower: Held | null = next.next
      if (next === held || isWaiting(next)) {
        next.delivery.release()
        this.remove(next)
      }
      next = follower
    }
  }

  /** Drops everything of the source; what runs is told to give up. Returns how many there were. */
  lose(assignment: Assignment, reason: Error): number {
    assignment.lost = true
    assignment.leaving = true
    const count = assignment.held.size
    for (const held of [...assignment.held]) {
      held.execution?.abort(reason)
      this.remove(held)
    }
    this.#assignments.delete(assignment.source)
    return count
  }
}

/** No handler and no store has it at the moment. */
export function isWaiting({ executing, place }: Held): boolean {
  return !executing && place !== 'running' && place !== 'storing' && place !== 'gone'
}
