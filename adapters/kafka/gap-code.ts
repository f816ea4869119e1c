/** Ascending whole numbers as bits. */
export interface Gaps {
  readonly bytes: Uint8Array
  /** How many bits of each gap are written as they are. */
  readonly rest: number
  /** How many of the numbers were written. */
  readonly count: number
  /** How many bits all of them would take. */
  readonly bits: number
}

/** Gaps are below 2 to this power: more than a partition can have between two holes. */
const MOST_REST = 40

/**
 * Writes ascending numbers as the gaps between them in a Rice code, at most `room` bits, the first ones
 * when there are too many. Neighbours cost one bit each, as in a bitmap; far ones the logarithm of their gap.
 */
export function encodeGaps(numbers: readonly number[], room: number): Gaps {
  const rest = bestRest(numbers)
  let count = 0
  let taken = 0
  let bits = 0
  let last = -1
  for (const number of numbers) {
    bits += 1 + rest + quotient(number - last - 1, rest)
    if (bits <= room) {
      count++
      taken = bits
    }
    last = number
  }
  return { bytes: written(numbers, count, rest, taken), rest, count, bits }
}

/** The numbers as they were written; `null` when these bytes are no `count` of them. */
export function decodeGaps(bytes: Uint8Array, rest: number, count: number): number[] | null {
  const bits = new BitReader(bytes)
  if (rest > MOST_REST || count > bits.length) return null
  const numbers: number[] = []
  let last = -1
  while (numbers.length < count) {
    let high = 0
    while (bits.next() === 1) high++
    let low = 0
    for (let at = 0; at < rest; at++) low = low * 2 + bits.next()
    if (bits.isOver) return null
    last += 1 + high * 2 ** rest + low
    numbers.push(last)
  }
  return numbers
}

/** The best one is near the logarithm of the mean gap. */
function bestRest(numbers: readonly number[]): number {
  const last = numbers[numbers.length - 1] ?? 0
  const mean = (last + 1) / Math.max(1, numbers.length)
  const near = Math.min(MOST_REST, Math.max(0, Math.floor(Math.log2(mean))))
  let [best, least] = [near, bitsWith(numbers, near)]
  for (const other of [near - 1, near + 1]) {
    const bits = other < 0 || other > MOST_REST ? Infinity : bitsWith(numbers, other)
    if (bits < least) [best, least] = [other, bits]
  }
  return best
}

function bitsWith(numbers: readonly number[], rest: number): number {
  let bits = numbers.length * (1 + rest)
  let last = -1
  for (const number of numbers) {
    bits += quotient(number - last - 1, rest)
    last = number
  }
  return bits
}

function quotient(gap: number, rest: number): number {
  return Math.floor(gap / 2 ** rest)
}

function written(
  numbers: readonly number[],
  count: number,
  rest: number,
  bits: number,
): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits / 8))
  let at = 0
  let last = -1
  for (let index = 0; index < count; index++) {
    const number = numbers[index] as number
    const gap = number - last - 1
    last = number
    for (let ones = quotient(gap, rest); ones > 0; ones--, at++) set(bytes, at)
    at++
    const low = gap % 2 ** rest
    for (let bit = rest - 1; bit >= 0; bit--, at++) {
      if (Math.floor(low / 2 ** bit) % 2 === 1) set(bytes, at)
    }
  }
  return bytes
}

function set(bytes: Uint8Array, bit: number): void {
  const at = bit >> 3
  bytes[at] = (bytes[at] as number) | (0x80 >> (bit & 7))
}

/** Bits from the first byte's highest on; behind the last one there are zeros. */
class BitReader {
  readonly length: number
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.length = bytes.length * 8
  }

  /** More was read than there is. */
  get isOver(): boolean {
    return this.#at > this.length
  }

  next(): number {
    const byte = this.#bytes[this.#at >> 3] ?? 0
    const bit = (byte >> (7 - (this.#at & 7))) & 1
    this.#at++
    return bit
  }
}
