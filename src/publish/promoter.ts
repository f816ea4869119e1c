import type { Clock } from '../contract/clock.ts'
import type { OutboxStore } from '../contract/store.ts'
import { Wake } from '../policy/wake.ts'
import type { Leases } from './leases.ts'
import type { Steady } from './steady.ts'

/** What promoting needs. */
export interface PromoterOptions {
  readonly store: Pick<OutboxStore<never>, 'promote'>
  readonly leases: Leases
  readonly steady: Steady
  readonly clock: Clock
  readonly batchSize: number
  /** Longest wait between two looks: another process may have scheduled a row. */
  readonly pollMs: number
  /** Rows became readable. */
  readonly moved: () => void
}

/** Moves scheduled rows to the others when they are due. */
export class Promoter {
  readonly #options: PromoterOptions
  readonly #wake: Wake

  constructor(options: PromoterOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  /** Runs until the steady calls are stopped. */
  run(): Promise<void> {
    const round = (): Promise<number> => this.#promote()
    const job = { name: 'promote', wake: this.#wake, round, ended: () => false }
    return this.#options.steady.rounds(job)
  }

  /** Looks again now. */
  ring(): void {
    this.#wake.ring()
  }

  /** Moves what is due; returns how long nothing more is. */
  async #promote(): Promise<number> {
    const { store, leases, steady, batchSize, pollMs, moved: tell } = this.#options
    const reading = leases.reading
    if (reading.length === 0) return pollMs
    const promote = (): ReturnType<typeof store.promote> => store.promote(reading, batchSize)
    const { moved, nextDueMs } = await steady.call('promote', promote)
    if (moved > 0) tell()
    if (moved === batchSize) return 0
    return nextDueMs === null ? pollMs : Math.min(pollMs, nextDueMs)
  }
}
