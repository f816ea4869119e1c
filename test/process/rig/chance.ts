import { textHash } from '../../../src/contract/partition.ts'

/** Numbers in [0, 1) that a seed fixes for ever. */
export type Chance = () => number

/** Mulberry32: small, and good enough to choose victims and moments. */
export function chance(seed: number): Chance {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A share in [0, 1) that belongs to a name: the same in every process of a run. */
export function shareOf(seed: number, name: string): number {
  return chance(textHash(`${seed}:${name}`))()
}

/** The seed of this run: `HOLDFAST_SEED` to repeat one, else a new one. Whoever draws from it prints it. */
export function seedOfRun(): number {
  const given = process.env['HOLDFAST_SEED']
  if (given === undefined) return Math.trunc(Math.random() * 2 ** 31)
  const seed = Number(given)
  if (Number.isSafeInteger(seed) && seed >= 0) return seed
  throw new Error(`HOLDFAST_SEED must be a whole number from 0 on, got '${given}'`)
}

/** One of them. */
export function oneOf<T>(all: readonly T[], draw: Chance): T {
  const one = all[Math.floor(draw() * all.length)]
  if (one === undefined) throw new Error('nothing to choose from')
  return one
}
