import { setTimeout as sleep } from 'node:timers/promises'

import { LiveView, type View } from './live-view.ts'
import { Progress } from './progress.ts'
import type { RunPlan } from './run-plan.ts'
import { readerOf } from './server-reader.ts'

/** A shop at work. */
export interface Running {
  /** Looks at its processes, and does to them what is planned. */
  tick(view: View): void
  /** Why the run cannot go on; null while it can. */
  readonly trouble: string | null
  /** The intake has ended, and no fault is under way. */
  readonly calm: boolean
  /** When a process last did something, on this process's monotonic clock. */
  readonly lastSignOfLife: number
  readonly counts: { readonly dead: number; readonly kills: number }
  /** What happens right now, in a few words. */
  readonly now: string
}

const LOOK_EVERY_MS = 100
/** Without any sign of life for so long, what has not arrived never will. */
const QUIET_MS = 45_000
/** Where one cannot see that the broker is empty, a late second delivery gets this long to show. */
const AFTERMATH_MS = 3_000

/** Looks on until everything arrived, or nothing moves any more; returns what ended it early, or null. */
export async function watch(plan: RunPlan, running: Running): Promise<string | null> {
  const live = await LiveView.open(plan.settings)
  const progress = new Progress(process.stdout)
  const started = performance.now()
  try {
    for (;;) {
      const view = live.look()
      running.tick(view)
      progress.show({ ...view, ...running.counts, expected: plan.orders, now: running.now })
      const now = performance.now()
      const quietMs = now - Math.max(running.lastSignOfLife, started)
      if (running.trouble !== null) return running.trouble
      if (running.calm && allArrived(view, running, quietMs) && (await nothingLeft(plan)))
        return null
      if (quietMs > QUIET_MS) return `nothing happened for ${QUIET_MS / 1_000} s`
      if (now - started > plan.timeoutMs) return `not finished after ${plan.timeoutMs / 1_000} s`
      await sleep(LOOK_EVERY_MS)
    }
  } finally {
    progress.clear()
    live.close()
  }
}

/** Where one can ask the broker itself: a second copy may wait for its time there. */
async function nothingLeft({ settings }: RunPlan): Promise<boolean> {
  const { broker, url, prefix } = settings
  const reader = readerOf(broker)
  if (reader === null || url === null) return true
  try {
    return (await reader.leftIn(url, prefix ?? '')) === 0
  } catch {
    return false
  }
}

function allArrived(view: View, { counts }: Running, quietMs: number): boolean {
  if (!view.finished || view.waiting > 0) return false
  if (view.inBroker !== null) return view.inBroker === 0
  return view.charged + counts.dead >= view.accepted && quietMs > AFTERMATH_MS
}
