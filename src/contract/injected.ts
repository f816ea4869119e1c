import { systemClock, systemRandom, type Clock, type Random } from './clock.ts'
import { noCrashes, type CrashPoints } from './crash-points.ts'
import { checkMethod } from './option.ts'

/** What tests and simulations put in place of the machine's own. */
export interface Injected {
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
}

/** The given ones, or the machine's own; throws an `OptionError` for what is none. */
export function injectedOptions({ clock, random, crash }: Partial<Injected>): Injected {
  if (clock !== undefined) checkMethod('clock', clock, 'after', 'a Clock')
  if (random !== undefined) checkMethod('random', random, 'next', 'a Random')
  if (crash !== undefined) checkMethod('crash', crash, 'at', 'CrashPoints')
  return {
    clock: clock ?? systemClock,
    random: random ?? systemRandom,
    crash: crash ?? noCrashes,
  }
}
