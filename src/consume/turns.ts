import type { Cancel, Clock } from '../contract/clock.ts'
import type { Assignment, Held } from './held.ts'

/** What part of the places one source leaves free while there are others. */
const KEPT_FREE = 0.25
/** Who delivered within that time is there. */
const RECENT_MS = 1_000

/**
 * Whose delivery starts next. The source with the fewest places comes first, and none has all of them
 * while there are others: one whose handlers are slow would have taken every place within a moment, since
 * it gives none back, and the others would go at its pace.
 */
export class Turns {
  readonly #clock: Clock
  readonly #onTurn: () => void
  /** Places of one source while there are others. */
  readonly #most: number
  /** Sources that have something ready; the one at `#at` is asked first. */
  readonly #ring: Assignment[] = []
  #at = 0
  #chosen = 0
  #length = 0
  /** The last two sources that delivered: one of them is another one, whoever asks. */
  #latest: Assignment | null = null
  #latestMs = Number.NEGATIVE_INFINITY
  #othersMs = Number.NEGATIVE_INFINITY
  #cancel: Cancel | null = null

  /** `places`: slices at once. `onTurn` is called when somebody may start who had to leave places free. */
  constructor(clock: Clock, places: number, onTurn: () => void) {
    this.#clock = clock
    this.#onTurn = onTurn
    this.#most = places - Math.floor(places * KEPT_FREE)
  }

  /** How many are ready; some may have been dropped since. */
  get length(): number {
    return this.#length
  }

  /** It was delivered. */
  arrived({ assignment, sinceMs }: Held): void {
    if (assignment !== this.#latest) {
      this.#othersMs = this.#latestMs
      this.#latest = assignment
    }
    this.#latestMs = sinceMs
  }

  /** It may start. */
  push(held: Held): void {
    const { assignment } = held
    if (assignment.ready.length === 0) this.#ring.push(assignment)
    assignment.ready.push(held)
    this.#length++
  }

  /** The one whose turn it is, which stays until `shift`. */
  peek(): Held | undefined {
    const { length } = this.#ring
    let best: Assignment | null = null
    for (let step = 0; step < length; step++) {
      const index = (this.#at + step) % length
      const one = this.#ring[index] as Assignment
      if ((best !== null && one.places >= best.places) || !this.#may(one)) continue
      best = one
      this.#chosen = index
      if (one.places === 0) break
    }
    if (best === null && length > 0) this.#askAgain()
    return best?.ready.peek()
  }

  /** Takes out what `peek` returned; another source is asked first next time. */
  shift(): void {
    const { ready } = this.#ring[this.#chosen] as Assignment
    ready.shift()
    this.#length--
    this.#at = this.#chosen + 1
    if (ready.length === 0) {
      this.#ring.splice(this.#chosen, 1)
      this.#at = this.#chosen
    }
    if (this.#at >= this.#ring.length) this.#at = 0
  }

  /** Its place is taken. */
  started(slice: readonly Held[]): void {
    count(slice, 1)
  }

  /** Its place is free again. */
  ended(slice: readonly Held[]): void {
    count(slice, -1)
  }

  /** Everything that is ready, in no particular order. */
  *[Symbol.iterator](): Iterator<Held> {
    for (const { ready } of this.#ring) yield* ready
  }

  /** Stops the timer. */
  close(): void {
    this.#cancel?.()
    this.#cancel = null
  }

  #may(one: Assignment): boolean {
    if (one.places < this.#most) return true
    const othersMs = one === this.#latest ? this.#othersMs : this.#latestMs
    return this.#clock.now() - othersMs > RECENT_MS
  }

  /** Nobody else may come, and then the places are not left free any longer. */
  #askAgain(): void {
    this.#cancel ??= this.#clock.after(RECENT_MS, () => {
      this.#cancel = null
      this.#onTurn()
    })
  }
}

/** Each source of a slice has one place of it. */
function count(slice: readonly Held[], by: 1 | -1): void {
  if (slice.length === 1) (slice[0] as Held).assignment.places += by
  else for (const one of new Set(slice.map(({ assignment }) => assignment))) one.places += by
}
