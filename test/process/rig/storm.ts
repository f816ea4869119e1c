import { walBytes } from './files.ts'
import type { Run } from './run.ts'

const SAMPLE_MS = 100

/** Looks at the write-ahead log again and again; the result tells how large it was at most. */
export function watchLog(run: Run): () => number {
  let most = 0
  const timer = setInterval(() => {
    most = Math.max(most, walBytes(run.paths.app))
  }, SAMPLE_MS)
  return () => {
    clearInterval(timer)
    return most
  }
}
