import type { Ordering } from '../contract/capabilities.ts'
import { OptionError } from '../contract/errors.ts'
import { queueName } from '../contract/names.ts'
import { checkObject, choiceOption } from '../contract/option.ts'
import {
  DEFAULT_RETRY_LEVELS_MS,
  resolveTopicSettings,
  type TopicSettings,
  type TopicTopology,
} from '../contract/topology.ts'
import type { AnyTopic, ConsumedTopic } from './consumed-topic.ts'
import type { CommonOptions, Consumed } from './options.ts'

/** The options that say something about topics. */
type GivenTopics = Pick<CommonOptions<Consumed, never>, 'topic' | 'topics' | 'ordering'>

/** From the weakest to the strongest. */
const orderings: readonly Ordering[] = ['none', 'key', 'partition']

/** The topics by name, each in the order the consumer keeps; throws an `OptionError` for what is none. */
export function topicsOf(given: GivenTopics, group: string): ReadonlyMap<string, ConsumedTopic> {
  const list = Array.isArray(given.topic) ? (given.topic as readonly AnyTopic[]) : [given.topic]
  const topics = new Map<string, ConsumedTopic>()
  for (const topic of list as readonly AnyTopic[]) {
    if (typeof topic?.name !== 'string' || typeof topic.codec?.decode !== 'function') {
      throw new OptionError('topic', topic, "what topic('name', …) returns, or a list of it")
    }
    if (topics.has(topic.name)) throw new OptionError('topic', topic.name, 'each topic once')
    topics.set(topic.name, consumedTopic(topic, given, group))
  }
  if (topics.size === 0) throw new OptionError('topic', given.topic, 'at least one topic')
  return topics
}

function consumedTopic(topic: AnyTopic, given: GivenTopics, group: string): ConsumedTopic {
  const { name } = topic
  return Object.freeze({
    topic,
    name,
    consumer: queueName(name, group),
    ordering: relaxed(topic, given.ordering),
    retryLevelsMs: levelsOf(given.topics?.[name]),
  })
}

function relaxed({ name, ordering }: AnyTopic, asked: Ordering | undefined): Ordering {
  const chosen = choiceOption('ordering', asked, ordering, orderings)
  if (orderings.indexOf(chosen) <= orderings.indexOf(ordering)) return chosen
  throw new OptionError(
    'ordering',
    chosen,
    `at most '${ordering}', which topic "${name}" declares: publishers and queues follow the topic`,
  )
}

/** What the broker has to keep, so that every topic gets its order. */
export function strongest(topics: ReadonlyMap<string, ConsumedTopic>): Ordering {
  const all = [...topics.values()].map(({ ordering }) => orderings.indexOf(ordering))
  return orderings[Math.max(...all)] ?? 'none'
}

function levelsOf(settings: TopicSettings | undefined): readonly number[] {
  const levels = settings?.retryLevelsMs ?? DEFAULT_RETRY_LEVELS_MS
  return Object.freeze([...new Set(levels)].sort((one, other) => one - other))
}

/** The option's topics, checked; throws an error that names the option, its value and what is allowed. */
export function settingsOf(given: GivenTopics): Readonly<Record<string, TopicSettings>> {
  const { topics = {} } = given
  checkObject('topics', topics)
  const checked = Object.entries(topics).map(
    ([name, own]) => [name, resolveTopicSettings(`topics.${name}`, own)] as const,
  )
  return Object.fromEntries(checked)
}

/** What was said about topics that are not consumed: handlers may publish to them. */
export function othersOf(
  topics: ReadonlyMap<string, ConsumedTopic>,
  settings: Readonly<Record<string, TopicSettings>>,
): Readonly<Record<string, TopicSettings>> {
  const others = Object.entries(settings).filter(([name]) => !topics.has(name))
  return Object.freeze(Object.fromEntries(others))
}

/** What this consumer needs to exist. */
export function topologyOf(
  topics: ReadonlyMap<string, ConsumedTopic>,
  settings: Readonly<Record<string, TopicSettings>>,
  group: string,
): readonly TopicTopology[] {
  const consumed = [...topics.values()].map(({ name, topic, retryLevelsMs }) => {
    const own = settings[name] ?? {}
    const groups = [...new Set([...(own.groups ?? []), group])]
    return {
      name,
      groups,
      partitions: own.partitions ?? null,
      ordering: topic.ordering,
      retryLevelsMs,
    }
  })
  return Object.freeze(consumed)
}
