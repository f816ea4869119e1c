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

/** Goes on with `next` as soon as the step is through: now, or when its promise resolves. */
export function after<T, R>(step: Eventually<T>, next: (value: T) => Eventually<R>): Eventually<R> {
  return step instanceof Promise ? step.then(next) : next(step)
}
