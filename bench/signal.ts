/** Resolves when something has happened often enough. */
export interface CountSignal {
  readonly reached: Promise<void>
  /** It happened once more. */
  readonly count: () => void
}

/** A promise for the `times`th call of `count`. */
export function signal(times: number): CountSignal {
  let left = times
  let resolve: () => void = () => undefined
  const reached = new Promise<void>((done) => (resolve = done))
  const count = (): void => {
    if (--left === 0) resolve()
  }
  return { reached, count }
}
