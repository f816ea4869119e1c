import { encodeProgress, type Progress } from './offset-metadata.ts'

/** A record that was handed out; it is a link in its tracker's list, so that tracking allocates nothing. */
export abstract class Tracked {
  /** Distance from where its tracker starts. Set by the tracker only, as are its neighbours. */
  place = 0
  before: Tracked | null = null
  after: Tracked | null = null
}

/** What may be committed for a partition. */
export interface Commitable {
  /** Everything before it is done. */
  readonly offset: bigint
  readonly progress: Progress
}

/** A commit as it is sent. */
export interface Commit {
  readonly offset: bigint
  readonly text: string | null
  /** Records that are done and not said to be, at most: they did not fit. */
  readonly misses: number
  /** How much of the room for holes was wanted. */
  readonly share: number
}

const NOTHING: Progress = Object.freeze({ handedTo: 0, doneTo: 0, open: Object.freeze([]) })

/**
 * What of one partition is done, from its assignment until it is lost, and never after. What is not done
 * is a list; everything else below `end` is done, or was never there: control records and compaction
 * leave holes. Offsets are 64 bits wide, distances between those of one assignment are plain numbers.
 */
export class OffsetTracker<T extends Tracked> {
  /** The offset committed when the partition was assigned. */
  readonly start: bigint
  /** What whoever had it before knew beyond that. */
  readonly #known: Progress
  /** The next one of `#known.open` to be passed. */
  #knownAt = 0
  #first: T | null = null
  #last: T | null = null
  #size = 0
  #end = 0
  /** No record at or behind it is settled. */
  #settledTo = 0

  constructor(start: bigint, known: Progress | null = null) {
    this.start = start
    this.#known = known ?? NOTHING
  }

  /** How many records are handed out and not done. */
  get size(): number {
    return this.#size
  }

  /** What was handed out and is not done, in order. */
  get first(): T | null {
    return this.#first
  }

  /** Behind the last record that was handed out or passed. */
  get end(): number {
    return this.#end
  }

  placeOf(offset: bigint): number {
    return Number(offset - this.start)
  }

  /** Whether it was done already when the partition was assigned. Places are asked about in ascending order. */
  wasDone(place: number): boolean {
    const { doneTo, open } = this.#known
    if (place >= doneTo) return place < 0
    while ((open[this.#knownAt] ?? doneTo) < place) this.#knownAt++
    return open[this.#knownAt] !== place
  }

  /** It is handed out. false: it was before, so it is not to be handed out again. */
  take(item: T, place: number): boolean {
    if (place < this.#end) return false
    item.place = place
    item.before = this.#last
    item.after = null
    if (this.#last === null) this.#first = item
    else this.#last.after = item
    this.#last = item
    this.#size++
    this.#end = place + 1
    return true
  }

  /** Nothing before `place` is still to be handed out. */
  pass(place: number): void {
    if (place > this.#end) this.#end = place
  }

  /** It is done for good. */
  done(item: T): void {
    const { before, after } = item
    if (before === null) this.#first = after as T | null
    else before.after = after
    if (after === null) this.#last = before as T | null
    else after.before = before
    item.before = item.after = null
    this.#size--
    if (item.place >= this.#settledTo) this.#settledTo = item.place + 1
  }

  /** It is handed out once more, as another object. */
  replace(item: T, by: T): void {
    const { before, after } = item
    by.place = item.place
    by.before = before
    by.after = after
    if (before === null) this.#first = by
    else before.after = by
    if (after === null) this.#last = by
    else after.before = by
    item.before = item.after = null
  }

  /** Before which place everything is done. */
  get prefix(): number {
    return this.#prefixBefore(this.#first)
  }

  #prefixBefore(first: Tracked | null): number {
    if (first !== null) return first.place
    return this.#knownOpen()[0] ?? Math.max(this.#end, this.#known.doneTo)
  }

  /** The offset to commit. */
  get next(): bigint {
    return this.start + BigInt(this.prefix)
  }

  /**
   * What to commit now. `handedTo`: the place that no handler gets beyond before the next commit. `upTo`:
   * as if everything up to it were done.
   */
  snapshot(handedTo: number, upTo: T | null = null): Commitable {
    const first: Tracked | null = upTo === null ? this.#first : upTo.after
    const prefix = this.#prefixBefore(first)
    const settledTo = Math.max(this.#settledTo, upTo === null ? 0 : upTo.place + 1)
    const doneTo = Math.max(settledTo, this.#known.doneTo)
    const open: number[] = []
    let item = first
    for (; item !== null && item.place < doneTo; item = item.after) open.push(item.place - prefix)
    for (const place of this.#knownOpen()) open.push(place - prefix)
    const progress = {
      handedTo: Math.max(0, handedTo - prefix),
      doneTo: Math.max(0, doneTo - prefix),
      open,
    }
    return { offset: this.start + BigInt(prefix), progress }
  }

  /** The same as text that fits beside the offset. */
  encoded(handedTo: number, upTo: T | null = null): Commit {
    const { offset, progress } = this.snapshot(handedTo, upTo)
    const { text, doneTo, share } = encodeProgress(offset, progress)
    const { open } = progress
    const beyond = progress.doneTo - doneTo
    const openBeyond = beyond === 0 ? 0 : open.filter((place) => place >= doneTo).length
    return { offset, text, share, misses: beyond - openBeyond }
  }

  /** Places that were open when it was assigned and are still ahead. */
  #knownOpen(): readonly number[] {
    const { doneTo, open } = this.#known
    if (this.#end >= doneTo) return []
    const from = open.findIndex((place) => place >= this.#end)
    return from < 0 ? [] : open.slice(from)
  }
}
