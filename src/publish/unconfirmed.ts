import type { Emit } from '../contract/events.ts'

/** Something that may still wait for confirms when the process ends. */
export interface Unconfirmed {
  readonly outstanding: number
  readonly emit: Emit
}

const counted = new Set<Unconfirmed>()

/**
 * Tells a last `process.unconfirmed` event when the process ends while something is outstanding. One
 * hook serves everybody and is gone with the last; returns how to leave.
 */
export function countAtExit(one: Unconfirmed): () => void {
  if (counted.size === 0) process.on('exit', tellAll)
  counted.add(one)
  return () => {
    if (counted.delete(one) && counted.size === 0) process.off('exit', tellAll)
  }
}

function tellAll(): void {
  for (const { outstanding: count, emit } of counted) {
    if (count > 0) emit({ type: 'process.unconfirmed', count })
  }
}
