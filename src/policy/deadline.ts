import type { Clock } from '../contract/clock.ts'
import type { Deadline } from '../contract/broker.ts'
import { HoldfastError } from '../contract/errors.ts'

/**
 * Waits for the work, at most until the deadline; then rejects with an error of code `timeout` that
 * names what was waited for. The work itself goes on: hand it the deadline too. What it still rejects
 * with later is swallowed here.
 */
export function withDeadline<T>(
  clock: Clock,
  deadline: Deadline,
  work: () => Promise<T>,
  what: string,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const leftMs = deadline - clock.now()
    const cancel = clock.after(leftMs, () => {
      reject(new HoldfastError('timeout', `${what} did not end within ${Math.round(leftMs)} ms`))
    })
    const end = <V>(settle: (value: V) => void) => {
      return (value: V) => {
        cancel()
        settle(value)
      }
    }
    try {
      work().then(end(resolve), end(reject))
    } catch (error) {
      end(reject)(error)
    }
  })
}
