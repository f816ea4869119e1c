import type { Clock } from '../../src/contract/clock.ts'
import type { TopicPartition } from './driver.ts'
import { nameOf } from './part-name.ts'

/** What is not read at present: since when, and why at last. */
interface Trouble {
  readonly part: TopicPartition
  readonly since: number
  why: string
}

/** What could not be read for that long is told: a leader is elected sooner. */
const TOLD_AFTER_MS = 5_000

/** Tells of partitions that could not be read for a while, and when all of them are read again. */
export class ReadingTrouble {
  readonly #clock: Clock
  readonly #tell: (trouble: string | null) => void
  readonly #troubles = new Map<string, Trouble>()
  #isTold = false

  /** `tell` is called when there is something, and with `null` when that is over. */
  constructor(clock: Clock, tell: (trouble: string | null) => void) {
    this.#clock = clock
    this.#tell = tell
  }

  /** It could not be read by a request that was made at `since`. */
  failed(part: TopicPartition, since: number, why: string): void {
    const name = nameOf(part)
    const known = this.#troubles.get(name)
    if (known === undefined) this.#troubles.set(name, { part, since, why })
    else known.why = why
    this.#look()
  }

  /** It was read, or nobody wants it read. */
  over(part: TopicPartition): void {
    if (this.#troubles.size > 0 && this.#troubles.delete(nameOf(part))) this.#look()
  }

  /** Nobody wants any others read. */
  keep(names: { has(name: string): boolean }): void {
    for (const name of this.#troubles.keys()) if (!names.has(name)) this.#troubles.delete(name)
    this.#look()
  }

  #look(): void {
    const before = this.#clock.now() - TOLD_AFTER_MS
    const long = [...this.#troubles.values()].filter(({ since }) => since <= before)
    const first = long[0]
    if (first === undefined) {
      if (this.#isTold) this.#tell(null)
    } else if (!this.#isTold) this.#tell(textOf(first, long.length - 1, this.#clock.now()))
    this.#isTold = first !== undefined
  }
}

function textOf({ part, since, why }: Trouble, others: number, now: number): string {
  const { topic, partition } = part
  const more = others === 0 ? '' : `, like ${others} others`
  const seconds = Math.round((now - since) / 1_000)
  return `partition ${partition} of topic "${topic}" could not be read for ${seconds} s${more}: ${why}`
}
