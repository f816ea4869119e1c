import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { decodeGaps, encodeGaps } from '../../../adapters/kafka/gap-code.ts'
import {
  decodeProgress,
  encodeProgress,
  MOST_METADATA_BYTES,
} from '../../../adapters/kafka/offset-metadata.ts'

const far = 2 ** 40

/** Ascending places, dense or sparse, as handlers leave them. */
const places = fc
  .array(fc.oneof(fc.nat(3), fc.nat(200), fc.nat(1_000_000)), { maxLength: 3_000 })
  .map((gaps) => {
    let last = -1
    return gaps.map((gap) => (last += 1 + gap))
  })

const progress = fc
  .tuple(places, fc.nat(10_000), fc.nat(1_000_000))
  .map(([open, beyond, ahead]) => {
    const doneTo = open.length === 0 ? 0 : (open[open.length - 1] as number) + 1 + beyond
    return { open, doneTo, handedTo: doneTo + ahead }
  })

const offsets = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })

describe('encodeGaps', () => {
  it('is read back number for number, or its first numbers are', () => {
    fc.assert(
      fc.property(places, fc.integer({ min: 64, max: 40_000 }), (numbers, room) => {
        const { bytes, rest, count, bits } = encodeGaps(numbers, room)
        expect(bytes.length * 8).toBeLessThan(room + 8)
        expect(count === numbers.length).toBe(bits <= room)
        expect(decodeGaps(bytes, rest, count)).toEqual(numbers.slice(0, count))
      }),
    )
  })

  it('takes a bit for each of many neighbours', () => {
    const numbers = Array.from({ length: 20_000 }, (_, place) => place)
    expect(encodeGaps(numbers, 24_000).bits).toBe(20_000)
  })

  it('has room for 1 400 holes a million records apart from end to end', () => {
    const numbers = Array.from({ length: 1_400 }, (_, hole) => hole * 714)
    const { count, bits } = encodeGaps(numbers, 24_000)
    expect(count).toBe(1_400)
    expect(bits).toBeLessThan(24_000 * 0.75)
  })

  it('reads nothing out of bytes that are too short', () => {
    const { bytes, rest, count } = encodeGaps([0, 5, 70, 1_000], 1_000)
    expect(decodeGaps(bytes.subarray(0, 1), rest, count)).toBeNull()
    expect(decodeGaps(new Uint8Array(2), 0, 1_000)).toBeNull()
    expect(decodeGaps(new Uint8Array(2), 99, 1)).toBeNull()
  })
})

describe('encodeProgress', () => {
  it('fits, and says nothing that is not so', () => {
    fc.assert(
      fc.property(offsets, progress, (offset, given) => {
        const { text, doneTo, share } = encodeProgress(offset, given)
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MOST_METADATA_BYTES)
        const read = decodeProgress(offset, text)
        expect(read).toEqual({
          handedTo: given.handedTo,
          doneTo,
          open: given.open.filter((place) => place < doneTo),
        })
        expect(doneTo === given.doneTo || share > 1).toBe(true)
      }),
    )
  })

  it('leaves out what is farthest when it does not fit', () => {
    const open = Array.from({ length: 30_000 }, (_, hole) => hole * 3)
    const { text, doneTo, share } = encodeProgress(7n, { open, doneTo: 90_000, handedTo: 90_000 })
    expect(text.length).toBeLessThanOrEqual(MOST_METADATA_BYTES)
    expect(text.length).toBeGreaterThan(MOST_METADATA_BYTES * 0.97)
    expect(share).toBeGreaterThan(1)
    expect(doneTo).toBeGreaterThan(20_000)
    expect(decodeProgress(7n, text)?.open).toEqual(open.filter((place) => place < doneTo))
  })

  it('is short where one record is behind and thousands are done', () => {
    const { text } = encodeProgress(5n, { open: [0], doneTo: 4_995, handedTo: 9_000 })
    expect(text.length).toBeLessThan(40)
    expect(decodeProgress(5n, text)).toEqual({ open: [0], doneTo: 4_995, handedTo: 9_000 })
  })

  it('keeps offsets and distances beyond 32 bits', () => {
    const open = [0, far, far + 1]
    const given = { open, doneTo: far + 2, handedTo: far * 2 }
    const offset = 2n ** 62n + 1n
    expect(decodeProgress(offset, encodeProgress(offset, given).text)).toEqual(given)
  })
})

describe('decodeProgress', () => {
  const { text } = encodeProgress(100n, { open: [0, 3], doneTo: 9, handedTo: 20 })

  it('takes nothing for ours that is not', () => {
    for (const other of [null, '', 'host-1', 'holdfast2;2s;k', '{"a":1}', 'holdfast1', ';;;;;;']) {
      expect(decodeProgress(100n, other)).toBeNull()
    }
  })

  it('takes nothing that was written beside another offset', () => {
    expect(decodeProgress(100n, text)).not.toBeNull()
    expect(decodeProgress(101n, text)).toBeNull()
  })

  it('takes nothing that is damaged', () => {
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ maxLength: 3 }), (at, other) => {
        const damaged = text.slice(0, at) + other + text.slice(at + 1)
        const read = decodeProgress(100n, damaged)
        if (read === null) return
        expect(read.open.every((place) => Number.isSafeInteger(place) && place >= 0)).toBe(true)
        expect(read.open).toEqual(read.open.toSorted((one, other) => one - other))
      }),
    )
  })
})
