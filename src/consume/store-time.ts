import type { Clock } from '../contract/clock.ts'
import { withDeadline } from '../policy/deadline.ts'

/** Longest a store may take for one call, the handlers in it aside. */
export const STORE_MS = 30_000

/** Waits for a store, but not for ever. */
export type WithinStoreTime = <T>(work: () => Promise<T>, what: string) => Promise<T>

/** Bounds calls to a store; rejects with code `timeout` and the name of what was waited for. */
export function storeTime(clock: Clock): WithinStoreTime {
  return (work, what) => withDeadline(clock, clock.now() + STORE_MS, work, what)
}
