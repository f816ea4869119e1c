import { draw } from './chance.ts'

/** A kill to come. */
export interface PlannedKill {
  /** Share of its work that the process has done by then. */
  readonly at: number
  /** And a little later, so that no step of the work is spared. */
  readonly delayMs: number
}

/** Kills begin when this share of the work is done, and end at that: the rest proves the recovery. */
const FIRST = 0.05
const LAST = 0.85

/** When a process is killed: one random moment in each of `kills` equal parts of its work. */
export function killPlan(seed: number, proc: string, kills: number): readonly PlannedKill[] {
  return Array.from({ length: kills }, (_, index) => ({
    at: FIRST + ((index + draw(seed, 'kill', proc, index)) * (LAST - FIRST)) / kills,
    delayMs: draw(seed, 'delay', proc, index) * 150,
  }))
}
