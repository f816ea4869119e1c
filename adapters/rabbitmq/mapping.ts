import { OptionError } from '../../src/contract/errors.ts'
import { checkedGroupName, checkedTopicName } from '../../src/contract/names.ts'
import { refuseUnknownOptions } from '../../src/contract/option.ts'

/** A queue that exists already and is what the group reads from. */
export interface MappedGroup {
  readonly queue: string
}

/** What of a topic exists already under names of its own. It is looked at, never declared or changed. */
export interface MappedTopic {
  /** `''` is the default exchange: `routingKey` is then the queue's name. Default: an exchange of ours. */
  readonly exchange?: string
  /** Routing key of every message, and what groups of ours bind with. Default: the key, bound by `#`. */
  readonly routingKey?: string
  /** Groups that are not listed get queues of ours. */
  readonly groups?: Readonly<Record<string, MappedGroup>>
}

/** Longest short string of AMQP. */
const LONGEST = 255

/** The option `map`, checked and frozen. Throws an `OptionError` with the path of what is wrong. */
export function resolveMap(given: unknown): ReadonlyMap<string, MappedTopic> {
  if (given === undefined) return new Map()
  const topics = Object.entries(objectAt('map', given, '{ [topic]: { exchange, … } }'))
  return new Map(topics.map(([name, topic]) => [checkedTopicName(name), resolveTopic(name, topic)]))
}

function resolveTopic(name: string, given: unknown): MappedTopic {
  const path = `map.${name}`
  const topic = objectAt(path, given, '{ exchange?, routingKey?, groups? }') as MappedTopic
  refuseUnknownOptions(path, topic, ['exchange', 'routingKey', 'groups'])
  const { exchange, routingKey } = topic
  if (exchange !== undefined) checkText(`${path}.exchange`, exchange, 0)
  if (routingKey !== undefined) checkText(`${path}.routingKey`, routingKey, 0)
  const groups = Object.entries(objectAt(`${path}.groups`, topic.groups ?? {}, '{ [group]: … }'))
  if (exchange === '' && routingKey === undefined) {
    const allowed = "the queue's name: the default exchange routes by it"
    throw new OptionError(`${path}.routingKey`, routingKey, allowed)
  }
  return Object.freeze({
    ...topic,
    groups: Object.freeze(
      Object.fromEntries(groups.map(([group, one]) => [group, resolveGroup(path, group, one)])),
    ),
  })
}

function resolveGroup(topicPath: string, name: string, given: unknown): MappedGroup {
  const path = `${topicPath}.groups.${checkedGroupName(name)}`
  const group = objectAt(path, given, "{ queue: '…' }") as MappedGroup
  refuseUnknownOptions(path, group, ['queue'])
  checkText(`${path}.queue`, group.queue, 1)
  return Object.freeze({ queue: group.queue })
}

function objectAt(path: string, given: unknown, allowed: string): object {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given
  throw new OptionError(path, given, allowed)
}

function checkText(path: string, given: unknown, least: number): void {
  const bytes = typeof given === 'string' ? Buffer.byteLength(given) : -1
  if (bytes >= least && bytes <= LONGEST) return
  throw new OptionError(path, given, `a text of ${least} to ${LONGEST} bytes`)
}
