import type { Clock } from '../../src/contract/clock.ts'
import { CapabilityError, isHoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Destination } from '../../src/contract/message.ts'
import type { TopicTopology } from '../../src/contract/topology.ts'
import type { DriverAdmin } from './driver.ts'
import { TopicNames } from './names-of.ts'
import type { Resolved } from './options.ts'

/** A Kafka topic as it was when it was last looked at. */
export interface TopicLayout {
  /** Its name in Kafka. */
  readonly topic: string
  /** By partition; `null`: it has none at present. */
  readonly leaders: readonly (number | null)[]
  /** Largest batch that the topic takes, in bytes. */
  readonly maxMessageBytes: number
  /** Its setting `compression.type`: a codec, or 'producer' for whatever each batch has. */
  readonly compression: string
}

/** A retry topic that exists. */
export interface RetryTopic {
  readonly topic: string
  readonly levelMs: number
}

/** What a topic table needs. */
export interface TopicTableOptions {
  readonly admin: Pick<DriverAdmin, 'partitions' | 'describeTopic' | 'topics'>
  readonly clock: Clock
  readonly emit: Emit
  readonly options: Pick<Resolved, 'prefix' | 'map' | 'frozenPartitionCount'>
}

/** Kafka's own default of `max.message.bytes`. */
export const DEFAULT_MAX_MESSAGE_BYTES = 1_048_588

/** After that long a layout is looked at again, in the background: topics grow. */
const FRESH_MS = 300_000
/** How long "there is no such topic" is taken for granted. */
const MISSING_MS = 1_000
/** Names kept of topics that nobody declared here; with `topology: 'none'` those are all. */
const MOST_NAMES = 10_000

/** What is known of one Kafka topic. */
interface Known {
  layout: TopicLayout | null
  lookedAtMs: number
  describedAtMs: number
  isStale: boolean
  looking: Promise<TopicLayout | null> | null
}

/** Names, partitions, leaders and limits of topics, remembered and looked up again when they are old or were wrong. */
export class TopicTable {
  readonly #options: TopicTableOptions
  readonly #names = new Map<string, TopicNames>()
  readonly #known = new Map<string, Known>()
  readonly #declared = new Map<string, { groups: Set<string>; levelsMs: Set<number> }>()

  constructor(options: TopicTableOptions) {
    this.#options = options
  }

  /** Kafka's names for a topic of ours; never throws. */
  names(topic: string): TopicNames {
    let names = this.#names.get(topic)
    if (names === undefined) {
      if (this.#names.size >= MOST_NAMES) this.#names.clear()
      names = new TopicNames(this.#options.options, topic)
      this.#names.set(topic, names)
    }
    return names
  }

  /** The Kafka topic a destination stands for. Throws a `CapabilityError` for replies. */
  topicOf(to: Destination): string {
    if (to.kind === 'reply') throw new CapabilityError('Kafka has no destination for replies')
    const names = this.names(to.topic)
    if (to.kind === 'topic') return names.topic
    if (to.kind === 'dead') return names.dead(to.group)
    return names.retry(to.group, to.delayMs)
  }

  /** Remembers what was declared here. */
  declare({ name, groups, retryLevelsMs }: TopicTopology): void {
    const known = this.#declared.get(name) ?? { groups: new Set(), levelsMs: new Set() }
    for (const group of groups) known.groups.add(group)
    for (const level of retryLevelsMs) known.levelsMs.add(level)
    this.#declared.set(name, known)
  }

  /** Groups of a topic that were declared here. */
  groups(topic: string): readonly string[] {
    return [...(this.#declared.get(topic)?.groups ?? [])]
  }

  /** What is known of a Kafka topic, without waiting; `null`: nothing yet, or that it is not there. */
  find(topic: string): TopicLayout | null {
    const known = this.#known.get(topic)
    if (known === undefined) return null
    if (!this.#isFresh(known)) this.look(topic).catch(() => undefined)
    return known.layout
  }

  /**
   * Looks a Kafka topic up unless what is known is fresh; `null`: there is no such topic. Rejects when
   * nobody can say. Asked by many at once it is asked once.
   */
  look(topic: string): Promise<TopicLayout | null> {
    const known = this.#of(topic)
    if (known.looking === null && this.#isFresh(known)) return Promise.resolve(known.layout)
    known.looking ??= this.#look(topic, known).finally(() => void (known.looking = null))
    return known.looking
  }

  /** What is known proved wrong: the next `look` asks again. */
  stale(topic: string): void {
    const known = this.#known.get(topic)
    if (known !== undefined) known.isStale = true
  }

  /** Retry topics of a group that exist, whoever made them, the shortest delay first. */
  async retryTopics(topic: string, group: string): Promise<readonly RetryTopic[]> {
    const names = this.names(topic)
    const found: RetryTopic[] = []
    for (const name of await this.#options.admin.topics()) {
      const levelMs = names.levelOf(group, name)
      if (levelMs !== null) found.push({ topic: name, levelMs })
    }
    return found.sort((one, other) => one.levelMs - other.levelMs)
  }

  #of(topic: string): Known {
    let known = this.#known.get(topic)
    if (known === undefined) {
      known = {
        layout: null,
        lookedAtMs: Number.NEGATIVE_INFINITY,
        describedAtMs: Number.NEGATIVE_INFINITY,
        isStale: false,
        looking: null,
      }
      this.#known.set(topic, known)
    }
    return known
  }

  #isFresh({ layout, lookedAtMs, isStale }: Known): boolean {
    if (isStale) return false
    const ageMs = this.#options.clock.now() - lookedAtMs
    return ageMs < (layout === null ? MISSING_MS : FRESH_MS)
  }

  async #look(topic: string, known: Known): Promise<TopicLayout | null> {
    const { admin, clock } = this.#options
    // What proves wrong while it is looked up is looked up again.
    known.isStale = false
    try {
      const partitions = await admin.partitions(topic)
      const before = known.layout
      if (partitions === null) known.layout = null
      else {
        const leaders = partitions.map(({ leader }) => leader)
        known.layout = { topic, leaders, ...(await this.#settings(topic, known)) }
      }
      known.lookedAtMs = clock.now()
      if (known.layout !== null && before !== null) this.#compare(before, known.layout)
      return known.layout
    } catch (error) {
      known.isStale = true
      throw error
    }
  }

  /** Asked less often than for leaders: one that moves changes no setting. */
  async #settings(topic: string, known: Known): Promise<Settings> {
    const { admin, clock, emit } = this.#options
    const isKnown = clock.now() - known.describedAtMs < FRESH_MS
    if (known.layout !== null && isKnown) {
      const { maxMessageBytes, compression } = known.layout
      return { maxMessageBytes, compression }
    }
    known.describedAtMs = clock.now()
    try {
      return settingsIn(await admin.describeTopic(topic))
    } catch (error) {
      // Who may write may not be allowed to look: too large is then found out by the broker.
      if (!isHoldfastError(error) || error.code !== 'topology') throw error
      const message = `the settings of topic "${topic}" are not known, ${DEFAULT_MAX_MESSAGE_BYTES} bytes per message are assumed: ${error.message}`
      emit({ type: 'warning', code: 'kafka.settings-unknown', message })
      return settingsIn({})
    }
  }

  #compare(before: TopicLayout, now: TopicLayout): void {
    const [had, has] = [before.leaders.length, now.leaders.length]
    if (had === has) return
    const { emit } = this.#options
    const message = `topic "${now.topic}" has ${has} partitions instead of ${had}: keys change their partition, and their order across that moment is lost, unless frozenPartitionCount says ${had}`
    emit({ type: 'warning', code: 'kafka.partitions-changed', message })
  }
}

type Settings = Pick<TopicLayout, 'maxMessageBytes' | 'compression'>

function settingsIn(config: Readonly<Record<string, string>>): Settings {
  return {
    maxMessageBytes: Number(config['max.message.bytes'] ?? DEFAULT_MAX_MESSAGE_BYTES),
    compression: config['compression.type'] ?? 'producer',
  }
}
