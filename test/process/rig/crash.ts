import type { CrashPoint, CrashPoints } from '../../../src/contract/crash-points.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Journal } from './journal.ts'
import type { CrashPlan } from './task.ts'

/** Says what is about to happen, then ends this process in the middle of what it does. */
export function dieHere(journal: Journal, name: string): never {
  journal.write('fault_start', 'ok', { name })
  process.kill(process.pid, 'SIGKILL')
  // The signal is on its way: nothing may happen in between.
  for (;;);
}

/** Visits are counted for all parts of the process together. */
class Striking implements CrashPoints {
  readonly #plan: CrashPlan
  readonly #journal: Journal
  #visits = 0

  constructor(plan: CrashPlan, journal: Journal) {
    this.#plan = plan
    this.#journal = journal
  }

  at(point: CrashPoint): void {
    const { point: planned, visit, action } = this.#plan
    if (point !== planned || ++this.#visits !== visit) return
    if (action === 'kill') dieHere(this.#journal, point)
    this.#journal.write('fault_start', 'ok', { name: `stopped at ${point}` })
    process.kill(process.pid, 'SIGSTOP')
    this.#journal.write('fault_stop', 'ok', { name: `stopped at ${point}` })
  }
}

/** Crash points that do what the plan says. */
export function crashing(plan: CrashPlan | null, journal: Journal): CrashPoints {
  return plan === null ? noCrashes : new Striking(plan, journal)
}
