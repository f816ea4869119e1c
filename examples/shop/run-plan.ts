import type { Settings } from './settings.ts'

/** What the demo does to a shop, and how long it may take. */
export interface RunPlan {
  readonly settings: Settings
  /** Orders to come, as far as one can tell. */
  readonly orders: number
  readonly seed: number
  /** SIGKILLs per process. */
  readonly kills: number
  readonly outageMs: number
  /** How often the broker is restarted. */
  readonly restarts: number
  /** The container to pause and to restart, for brokers that run in one. */
  readonly container: string | null
  readonly timeoutMs: number
}
