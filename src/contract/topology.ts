import type { Ordering } from './capabilities.ts'

/** Delays, in milliseconds, at which a broker without native delays keeps a retry destination. */
export const DEFAULT_RETRY_LEVELS_MS: readonly number[] = Object.freeze([
  1_000, 5_000, 30_000, 120_000, 300_000,
])

/** What has to exist on the broker for one topic. */
export interface TopicTopology {
  readonly name: string
  /** Groups that get every message from the moment they are declared; `[]` says on purpose: store nothing. */
  readonly groups: readonly string[]
  /** Number of partitions; `null`: the broker's own way. */
  readonly partitions: number | null
  readonly ordering: Ordering
  readonly retryLevelsMs: readonly number[]
}

/** Everything a process publishes to or consumes from. */
export interface Topology {
  readonly topics: readonly TopicTopology[]
}

/** One thing that provisioning or the audit found. */
export interface Finding {
  /** error: a guarantee does not hold; warning: it holds weakly; info: worth knowing. */
  readonly severity: 'error' | 'warning' | 'info'
  /** Stable and greppable, for example `sqlite.synchronous`. */
  readonly code: string
  /** What it is about: a topic, a queue, a setting. */
  readonly subject: string
  readonly message: string
  readonly declared?: string
  readonly found?: string
}
