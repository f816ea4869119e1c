import type { Ordering } from './capabilities.ts'
import { checkedGroupName } from './names.ts'
import { integerOption, listOption, refuseUnknownOptions } from './option.ts'

/** Delays, in milliseconds, at which a broker without native delays keeps a retry destination. */
export const DEFAULT_RETRY_LEVELS_MS: readonly number[] = Object.freeze([
  1_000, 5_000, 30_000, 120_000, 300_000,
])

const MOST_PARTITIONS = 10_000

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

/** What has to exist on the broker for a topic, beside what `topic()` says of it. */
export interface TopicSettings {
  /** Groups that get every message from the first publish on; `[]` says on purpose: store nothing. */
  readonly groups?: readonly string[]
  /** Number of partitions. Default: the broker's own way. */
  readonly partitions?: number
  /** Delays at which retries wait where the broker has no delays of its own, in milliseconds. Default 1 000, 5 000, 30 000, 120 000, 300 000. */
  readonly retryLevelsMs?: readonly number[]
}

/** The settings with their groups checked; throws an error that names the option, its value and what is allowed. */
export function resolveTopicSettings(name: string, given: TopicSettings): TopicSettings {
  refuseUnknownOptions(name, given, ['groups', 'partitions', 'retryLevelsMs'])
  const { groups, partitions, retryLevelsMs } = given
  integerOption(`${name}.partitions`, partitions, 1, { min: 1, max: MOST_PARTITIONS })
  for (const level of listOption(`${name}.retryLevelsMs`, retryLevelsMs)) {
    integerOption(`${name}.retryLevelsMs`, level, 1, { min: 1 })
  }
  const checked = listOption(`${name}.groups`, groups).map(checkedGroupName)
  return Object.freeze({ ...given, ...(groups === undefined ? {} : { groups: checked }) })
}

/** How topics are brought about: made when missing, only looked at, or taken for granted. */
export type TopologyMode = 'create' | 'verify' | 'none'

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
