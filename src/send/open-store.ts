import type { Clock } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import type { Emit } from '../contract/events.ts'
import type { StoreContext } from '../contract/store.ts'

/** What can be opened: an outbox or an inbox. */
interface Openable {
  open(context: StoreContext): Promise<void>
}

const opened = new WeakMap<Openable, Promise<void>>()

/**
 * Opens a store once for all parts of the process that share it; a failure is tried again by the next
 * call. The store stays open until whoever made it closes it.
 */
export function openStore(
  store: Openable,
  { clock, crash, emit }: { clock: Clock; crash: CrashPoints; emit: Emit },
): Promise<void> {
  const known = opened.get(store)
  if (known !== undefined) return known
  // No part may abort what the others still use.
  const { signal } = new AbortController()
  const opening = store.open({ clock, crash, emit, signal })
  opened.set(store, opening)
  opening.catch(() => opened.delete(store))
  return opening
}
