/** The properties a delivery history has to have. */
export type Property =
  | 'C1 no loss'
  | 'C2 no invention'
  | 'C3 effect once'
  | 'C4 order'
  | 'C5 honest dead letters'
  | 'C6 settle once'
  | 'C7 bounded duplicates'
  | 'C8 liveness'
  | 'C9 residue'
  | 'C10 resources'
  | 'C11 honest metrics'
  | 'C12 not vacuous'

/** One property that does not hold, and where. */
export interface Violation {
  readonly property: Property
  readonly text: string
}

/** What a run has to have exercised; each counter must be at least this. */
export interface Demands {
  readonly published?: number
  readonly delivered?: number
  readonly redelivered?: number
  readonly duplicates?: number
  readonly unknown?: number
  readonly refused?: number
  readonly dead?: number
  readonly faults?: number
  readonly killed?: number
}

/** What the checker is to expect of a run; a property whose expectation is missing is not checked. */
export interface Expectations {
  /** Groups that have to get every message. Default: those that appear in the history. */
  readonly groups?: readonly string[]
  /** With an inbox every effect happens once; without, once or more. Default false. */
  readonly inbox?: boolean
  /** Per-key order was asked for. Default true. */
  readonly ordered?: boolean
  /** Attempts before a transient failure may be dead-lettered. */
  readonly attemptLimit?: number
  /** Reasons that need no attempts. Default schema, codec, no-id, permanent, expired. */
  readonly permanentReasons?: readonly string[]
  /** Messages that have to end dead, and no others. */
  readonly poison?: readonly string[]
  /** Most deliveries beyond the first per message and group, retries aside. */
  readonly duplicates?: number
  /** Milliseconds from the last `fault_stop` (or publish) to the last first delivery. */
  readonly drainedWithinMs?: number
  /** Longest time from the beginning of a publish to its answer. */
  readonly publishWithinMs?: number
  /** What was left at the end, by name: all have to be 0. */
  readonly residue?: Readonly<Record<string, number>>
  /** Upper bounds of `lib_metric` values, by name. */
  readonly bounds?: Readonly<Record<string, number>>
  /** The library's own counters at the end, by name. */
  readonly metrics?: Readonly<Partial<Record<'published' | 'acked' | 'retried' | 'dead', number>>>
  /** What the run has to have exercised to count at all. */
  readonly demands?: Demands
}

/** What the checker found. `invalid`: the run exercised too little to prove anything. */
export interface Verdict {
  readonly result: 'pass' | 'fail' | 'invalid'
  readonly violations: readonly Violation[]
  readonly counts: Readonly<Required<Demands>>
}
