import type { Random } from '../../src/contract/clock.ts'

/** Chance that comes out the same for the same seed. */
export function seededRandom(seed = 1): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    fill: (bytes) => {
      for (let index = 0; index < bytes.length; index++) bytes[index] = Math.floor(next() * 256)
    },
  }
}
