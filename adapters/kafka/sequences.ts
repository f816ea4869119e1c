import type { Part } from './driver.ts'

/** A producer that wrote that many records to one partition is replaced: the numbers end at 2^31. */
export const MOST_SEQUENCES = 1_000_000_000

/** Numbers of one producer's records, by partition: each is given out once, in order. */
export class Sequences {
  readonly #next = new Map<string, Map<number, number>>()
  #isUsedUp = false

  /** Some partition's numbers are nearly used up. */
  get isUsedUp(): boolean {
    return this.#isUsedUp
  }

  /** The number of the part's first record; the next part of that partition begins behind its last. */
  take({ topic, partition, records }: Part): number {
    let partitions = this.#next.get(topic)
    if (partitions === undefined) {
      partitions = new Map()
      this.#next.set(topic, partitions)
    }
    const first = partitions.get(partition) ?? 0
    const next = first + records.length
    partitions.set(partition, next)
    if (next >= MOST_SEQUENCES) this.#isUsedUp = true
    return first
  }
}
