import type { Part, PartResult, Told } from './driver.ts'

/** One part of a call: how far it is. */
export class PartRun {
  readonly part: Part
  /** Number of its first record; the same whenever it is written again. `null`: not written yet. */
  sequence: number | null = null
  /** What makes it doubtful whether it is stored; `null`: it certainly is not. */
  doubt: { readonly why: string; readonly cause?: unknown } | null = null
  result: PartResult | null = null

  constructor(part: Part) {
    this.part = part
  }
}

/** One call of `produce`: the results so far, told once each. */
export class ProduceRun {
  readonly parts: readonly PartRun[]
  readonly #told: Told | undefined

  constructor(parts: readonly Part[], told: Told | undefined) {
    this.parts = parts.map((part) => new PartRun(part))
    this.#told = told
  }

  /** Topics of all parts. */
  get topics(): ReadonlySet<string> {
    return new Set(this.parts.map(({ part }) => part.topic))
  }

  /** All of them are stored. */
  get isStored(): boolean {
    return this.parts.every(({ result }) => result?.status === 'stored')
  }

  end(run: PartRun, result: PartResult): void {
    if (run.result !== null) return
    run.result = result
    this.#told?.(this.parts.indexOf(run), result)
  }

  /** Ends what is still open, as `rest` says. */
  results(rest: (run: PartRun) => PartResult): readonly PartResult[] {
    return this.parts.map((run) => run.result ?? rest(run))
  }
}
