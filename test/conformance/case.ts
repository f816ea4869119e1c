/** Something a case cannot do without: a capability, or a hook of the harness. */
export interface Need<H> {
  /** Named where the case is left out, for example `retryDelay 'levels'`. */
  readonly what: string
  met(harness: H): boolean | Promise<boolean>
}

/**
 * One sentence of a contract and the code that holds an implementation to it. `run` rejects when the
 * sentence does not hold; it waits for conditions within a bound, uses destinations of its own,
 * closes what it opened, and may run many times at once against one store.
 */
export interface Case<H> {
  readonly name: string
  readonly needs: readonly Need<H>[]
  /** How many of it one machine can run at once, for cases that start processes. Default: any number. */
  readonly most?: number
  run(harness: H): Promise<void>
}

/** A case that does not fit the harness, and what it would need. */
export interface LeftOut<H> {
  readonly case: Case<H>
  readonly missing: readonly string[]
}

/** Splits cases into those the harness can run and those it cannot, with the reason. */
export async function choose<H>(
  cases: readonly Case<H>[],
  harness: H,
): Promise<{ readonly fitting: readonly Case<H>[]; readonly leftOut: readonly LeftOut<H>[] }> {
  const fitting: Case<H>[] = []
  const leftOut: LeftOut<H>[] = []
  for (const one of cases) {
    const missing = await missingNeeds(one, harness)
    if (missing.length === 0) fitting.push(one)
    else leftOut.push({ case: one, missing })
  }
  return { fitting, leftOut }
}

async function missingNeeds<H>(one: Case<H>, harness: H): Promise<readonly string[]> {
  const missing: string[] = []
  for (const need of one.needs) {
    if (!(await need.met(harness))) missing.push(need.what)
  }
  return missing
}

/**
 * The same cases, each run `times` times at once (fewer where a case says so): what passes alone and
 * fails here shares state it should not share.
 */
export function inParallel<H>(cases: readonly Case<H>[], times: number): readonly Case<H>[] {
  return cases.map((one) => {
    const count = Math.min(times, one.most ?? times)
    const name = `${one.name} (${count} times at once)`
    return { name, needs: one.needs, run: (harness: H) => runAtOnce(one, harness, count) }
  })
}

async function runAtOnce<H>(one: Case<H>, harness: H, count: number): Promise<void> {
  const runs = Array.from({ length: count }, () => one.run(harness))
  const failed = (await Promise.allSettled(runs)).filter((run) => run.status === 'rejected')
  if (failed.length === 0) return
  throw new AggregateError(
    failed.map((run) => run.reason as Error),
    `${failed.length} of ${count} runs at once failed; the first: ${String(failed[0]?.reason)}`,
  )
}
