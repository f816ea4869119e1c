/** A step's result: there at once when the step was synchronous, so that it costs no promise then. */
export type Eventually<T> = T | Promise<T>

/** True for promises of any make. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    value !== null &&
    (typeof value === 'object' || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  )
}
