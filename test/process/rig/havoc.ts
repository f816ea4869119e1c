import { setTimeout as wait } from 'node:timers/promises'

import { chance, oneOf, type Chance } from './chance.ts'
import type { Worker } from './crew.ts'
import type { Run } from './run.ts'

/** Kills without warning. */
export interface Havoc {
  readonly seed: number
  readonly victims: readonly Worker[]
  readonly forMs: number
  /** Between two kills. */
  readonly everyMs: readonly [least: number, most: number]
}

/** SIGKILLs one of the victims again and again; resolves with how many died of it. */
export async function wreakHavoc(run: Run, havoc: Havoc): Promise<number> {
  const { victims, seed, forMs, everyMs } = havoc
  const draw = chance(seed)
  const until = performance.now() + forMs
  while (performance.now() < until) {
    await wait(between(everyMs, draw))
    run.assertNoTrouble()
    const living = victims.filter((one) => one.isAlive && !one.finished && isAtWork(run, one))
    if (living.length > 0) oneOf(living, draw).life.kill()
  }
  return victims.reduce((sum, { deaths }) => sum + deaths, 0)
}

/** A number between two others. */
export function between([least, most]: readonly [number, number], draw: Chance): number {
  return least + draw() * (most - least)
}

/** One that has done nothing yet proves nothing by dying. */
function isAtWork(run: Run, { life }: Worker): boolean {
  return run.history.read().some(({ proc }) => proc === life.proc)
}
