import type { Clock } from '../contract/clock.ts'
import type { Deadline } from '../contract/broker.ts'
import { HoldfastError } from '../contract/errors.ts'

/**
 * Waits for the work, at most until the deadline; then rejects with an error of code `timeout` that
 * names what was waited for; or with the signal's reason as soon as it aborts. The work itself goes on:
 * hand it the deadline too. What it still rejects with later is swallowed here.
 */
export function withDeadline<T>(
  clock: Clock,
  deadline: Deadline,
  work: () => Promise<T>,
  what: string,
  signal?: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason as Error)
    const leftMs = deadline - clock.now()
    const end = <V>(settle: (value: V) => void) => {
      return (value: V) => {
        cancel()
        signal?.removeEventListener('abort', abort)
        settle(value)
      }
    }
    const abort = (): void => end(reject)(signal?.reason as Error)
    const cancel = clock.after(leftMs, () => {
      const text = `${what} did not end within ${Math.round(leftMs)} ms`
      end(reject)(new HoldfastError('timeout', text))
    })
    signal?.addEventListener('abort', abort, { once: true })
    try {
      work().then(end(resolve), end(reject))
    } catch (error) {
      end(reject)(error)
    }
  })
}
