import {
  checkedGroupName,
  checkedTopicName,
  deadName,
  queueName,
  retryName,
} from '../../src/contract/names.ts'
import type { TopicTopology } from '../../src/contract/topology.ts'
import type { Resolved } from './options.ts'

/** What the names follow from. */
export type NameOptions = Pick<Resolved, 'prefix' | 'map'>

/** Kafka's names for one topic. Asking never throws; `checkNames` is asked before anything is made. */
export class TopicNames {
  /** The Kafka topic. */
  readonly topic: string
  /** The topic is the user's own: looked at, never made or changed. */
  readonly isMapped: boolean
  readonly #own: string
  readonly #map: ReturnType<NameOptions['map']['get']>

  constructor({ prefix, map }: NameOptions, topic: string) {
    this.#own = prefix + topic
    this.#map = map.get(topic)
    this.topic = this.#map?.topic ?? this.#own
    this.isMapped = this.#map?.topic !== undefined
  }

  /** One Kafka group per topic and group: kafkajs cannot keep members apart that want different topics. */
  groupId(group: string): string {
    return this.#map?.groups?.[group]?.groupId ?? `${this.#own}.${group}`
  }

  /** What stands before the delay in the names of a group's retry topics. */
  retryPrefix(group: string): string {
    return `${this.#own}.${group}.retry.`
  }

  /** 0: at once, for replays. */
  retry(group: string, levelMs: number): string {
    return `${this.retryPrefix(group)}${levelMs}`
  }

  dead(group: string): string {
    return `${this.#own}.${group}.dead`
  }

  /** The level of a retry topic of that group; `null` for any other topic. */
  levelOf(group: string, topic: string): number | null {
    const prefix = this.retryPrefix(group)
    if (!topic.startsWith(prefix)) return null
    const level = topic.slice(prefix.length)
    return /^(0|[1-9][0-9]{0,15})$/.test(level) ? Number(level) : null
  }
}

/** Throws an error with code `topic` or `group` when a name is not allowed or too long for any broker. */
export function checkNames(prefix: string, { name, groups, retryLevelsMs }: TopicTopology): void {
  const topic = checkedTopicName(prefix + checkedTopicName(name))
  for (const group of groups) {
    queueName(topic, checkedGroupName(group))
    deadName(topic, group)
    for (const levelMs of retryLevelsMs) retryName(topic, group, levelMs)
  }
}
