/** One leg of a delay that travels through the broker's retry destinations. */
export interface Leg {
  /** The level to send to; always one that exists. */
  readonly levelMs: number
  /** What is left of the delay after it. */
  readonly remainingMs: number
}

/**
 * The next leg of a delay: the smallest level that is not shorter, so that a retry is never early; a
 * delay beyond the longest level takes that one and goes on with the rest. `levels` ascend and are
 * not empty.
 */
export function legOf(delayMs: number, levels: readonly number[]): Leg {
  for (const levelMs of levels) {
    if (levelMs >= delayMs) return { levelMs, remainingMs: 0 }
  }
  const longest = levels[levels.length - 1] as number
  return { levelMs: longest, remainingMs: Math.ceil(delayMs - longest) }
}
