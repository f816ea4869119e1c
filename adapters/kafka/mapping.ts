import { OptionError } from '../../src/contract/errors.ts'
import { checkedGroupName, checkedTopicName } from '../../src/contract/names.ts'
import { checkObject, refuseUnknownOptions } from '../../src/contract/option.ts'

/** A consumer group that exists already, whose offsets are gone on from. */
export interface MappedGroup {
  readonly groupId: string
}

/** What of a topic exists already under names of its own. It is looked at, never made or changed. */
export interface MappedTopic {
  /** Name of the Kafka topic. Default: one of ours, `prefix` and the topic's name. */
  readonly topic?: string
  /** Groups that are not listed get group ids of ours. Retry and dead-letter topics are always ours. */
  readonly groups?: Readonly<Record<string, MappedGroup>>
}

const LONGEST_GROUP_ID = 249

/** The option `map`, checked and frozen. Throws an `OptionError` with the path of what is wrong. */
export function resolveMap(given: unknown): ReadonlyMap<string, MappedTopic> {
  if (given === undefined) return new Map()
  checkObject('map', given)
  const topics = Object.entries(given as object)
  return new Map(topics.map(([name, topic]) => [checkedTopicName(name), resolveTopic(name, topic)]))
}

function resolveTopic(name: string, given: unknown): MappedTopic {
  const path = `map.${name}`
  refuseUnknownOptions(path, given as object, ['topic', 'groups'])
  const { topic, groups = {} } = given as MappedTopic
  if (topic !== undefined) checkTopic(`${path}.topic`, topic)
  checkObject(`${path}.groups`, groups)
  const resolved = Object.entries(groups).map(([group, one]) => [
    checkedGroupName(group),
    resolveGroup(`${path}.groups.${group}`, one),
  ])
  return Object.freeze({
    ...(topic === undefined ? {} : { topic }),
    groups: Object.freeze(Object.fromEntries(resolved)) as Record<string, MappedGroup>,
  })
}

function resolveGroup(path: string, given: unknown): MappedGroup {
  refuseUnknownOptions(path, given as object, ['groupId'])
  const { groupId } = given as MappedGroup
  const isText = typeof groupId === 'string' && groupId !== ''
  if (!isText || Buffer.byteLength(groupId) > LONGEST_GROUP_ID) {
    throw new OptionError(`${path}.groupId`, groupId, `a text of 1 to ${LONGEST_GROUP_ID} bytes`)
  }
  return Object.freeze({ groupId })
}

function checkTopic(path: string, given: unknown): void {
  try {
    checkedTopicName(given as string)
  } catch {
    throw new OptionError(path, given, 'the name of a Kafka topic: A-Z, a-z, 0-9, ".", "_" and "-"')
  }
}
