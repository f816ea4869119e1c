import type { Clock } from '../../src/contract/clock.ts'

/**
 * How long a record of a retry topic has to wait yet, in milliseconds; never so short that it would be
 * handed out before its delay has passed since it was stored. The broker's clock says when that was, ours
 * says what time it is. Where the two disagree, it waits no longer than its delay since `seenAt`, the
 * instant at which it was here: then it had been stored for sure.
 */
export function waitOf(
  timestampMs: number,
  levelMs: number,
  seenAt: number,
  clock: Pick<Clock, 'wallMs' | 'now'>,
): number {
  if (levelMs === 0) return 0
  // The broker's milliseconds are whole ones that have begun.
  const byTheirs = timestampMs + levelMs + 1 - clock.wallMs()
  const byOurs = seenAt + levelMs - clock.now()
  return Math.max(0, Math.min(byTheirs, byOurs))
}
