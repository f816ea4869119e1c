import { AsyncLocalStorage } from 'node:async_hooks'

/** A transaction as the code running inside it sees it. */
interface Inside {
  /** Its real path. */
  readonly path: string
  open: boolean
  readonly outer: Inside | undefined
}

const inside = new AsyncLocalStorage<Inside | undefined>()

/** True when the calling code runs inside a transaction that is still open on the file of that real path. */
export function insideTransactionOn(path: string): boolean {
  return insideTransaction((open) => open === path)
}

/** True when the calling code runs inside an open transaction on a file with such a path. */
export function insideTransaction(on: (path: string) => boolean): boolean {
  for (let one = inside.getStore(); one !== undefined; one = one.outer) {
    if (one.open && on(one.path)) return true
  }
  return false
}

/**
 * Binds `work` to the caller's own async context (its tracing and the like), in which a transaction on
 * the file is open from the call of the result until its promise has settled. To be called once.
 */
export function asTransactionOn<A, T>(
  path: string,
  work: (argument: A) => Promise<T> | T,
): (argument: A) => Promise<T> {
  let begin!: (argument: A) => void
  const begun = new Promise<A>((resolve) => (begin = resolve))
  const here: Inside = { path, open: true, outer: inside.getStore() }
  // A promise's callbacks run in the context in which they were added.
  const ended = begun
    .then((argument) => inside.run(here, () => work(argument)))
    .finally(() => void (here.open = false))
  return (argument) => {
    begin(argument)
    return ended
  }
}

/** Runs what serves everybody outside of whoever happened to start it. */
export function outsideTransactions<T>(work: () => T): T {
  return inside.run(undefined, work)
}
