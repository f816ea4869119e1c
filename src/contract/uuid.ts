import type { Clock, Random } from './clock.ts'

const POOL_BYTES = 4_096
const hex: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
)

/** Makes message ids: UUID version 7 (RFC 9562), 74 random bits each, time-ordered to the millisecond. */
export class UuidSource {
  readonly #clock: Clock
  readonly #random: Random
  readonly #pool = new Uint8Array(POOL_BYTES)
  #used = POOL_BYTES
  #lastMs = -1
  #lastPrefix = ''

  constructor(clock: Clock, random: Random) {
    this.#clock = clock
    this.#random = random
  }

  /** Unix milliseconds at which the last id was made. */
  get lastMs(): number {
    return this.#lastMs
  }

  next(): string {
    const at = this.#take(10)
    const p = this.#pool
    const h = hex as string[]
    return (
      this.#timePrefix() +
      h[0x70 | (p[at]! & 0x0f)]! +
      h[p[at + 1]!]! +
      '-' +
      h[0x80 | (p[at + 2]! & 0x3f)]! +
      h[p[at + 3]!]! +
      '-' +
      h[p[at + 4]!]! +
      h[p[at + 5]!]! +
      h[p[at + 6]!]! +
      h[p[at + 7]!]! +
      h[p[at + 8]!]! +
      h[p[at + 9]!]!
    )
  }

  #take(bytes: number): number {
    if (this.#used + bytes > POOL_BYTES) {
      this.#random.fill(this.#pool)
      this.#used = 0
    }
    this.#used += bytes
    return this.#used - bytes
  }

  /** The first 13 digits with their dashes: the same for all ids of one millisecond. */
  #timePrefix(): string {
    const ms = this.#clock.wallMs()
    if (ms !== this.#lastMs) {
      const digits = Math.trunc(ms).toString(16).padStart(12, '0')
      this.#lastMs = ms
      this.#lastPrefix = `${digits.slice(0, 8)}-${digits.slice(8)}-`
    }
    return this.#lastPrefix
  }
}
