import { HoldfastError } from '../../src/contract/errors.ts'
import { integerOption } from '../../src/contract/option.ts'
import { checkedGroupName, checkedTopicName, retryName } from '../../src/contract/names.ts'
import type { Finding, Topology, TopicTopology } from '../../src/contract/topology.ts'
import type { MemoryServer } from './server.ts'
import type { TopicLog } from './topic-log.ts'

/** Makes what is missing ('create') and says what is not as declared. Changes nothing that exists. */
export function provision(
  server: MemoryServer,
  topology: Topology,
  mode: 'create' | 'verify',
): readonly Finding[] {
  return topology.topics.flatMap((declared) => {
    check(declared)
    const found = server.topics.get(declared.name)
    if (mode === 'verify')
      return found === undefined ? [topicMissing(declared)] : verify(found, declared)
    const topic = found ?? server.addTopic(declared.name, declared.partitions)
    create(topic, declared)
    return verify(topic, declared)
  })
}

/** All of it is gone with the process; nothing else is weak. */
export function audit(server: MemoryServer, topology: Topology): readonly Finding[] {
  const volatile: Finding = {
    severity: 'warning',
    code: 'memory.volatile',
    subject: 'memory',
    message: 'messages live in this process and end with it; use it for tests and demos',
  }
  return [volatile, ...provision(server, topology, 'verify')]
}

function check({ name, groups, partitions, retryLevelsMs }: TopicTopology): void {
  checkedTopicName(name)
  integerOption(`partitions of topic "${name}"`, partitions ?? 1, 1, { min: 1, max: 10_000 })
  for (const level of retryLevelsMs) {
    integerOption(`retryLevelsMs of topic "${name}"`, level, 1, { min: 1 })
  }
  for (const group of groups) {
    checkedGroupName(group)
    for (const level of retryLevelsMs) retryName(name, group, level)
  }
}

function create(topic: TopicLog, { groups, retryLevelsMs }: TopicTopology): void {
  if (groups.length === 0 && topic.groups.length === 0) topic.storesNothing = true
  for (const name of groups) {
    const group = topic.group(name) ?? topic.addGroup(name)
    for (const level of retryLevelsMs) group.levels.add(level)
  }
}

function verify(topic: TopicLog, declared: TopicTopology): Finding[] {
  const findings: Finding[] = []
  if (topic.partitions !== declared.partitions) findings.push(otherPartitions(topic, declared))
  for (const name of declared.groups) {
    const group = topic.group(name)
    if (group === undefined) findings.push(groupMissing(declared, name))
    for (const level of declared.retryLevelsMs) {
      if (group?.levels.has(level) === false) findings.push(levelMissing(declared, name, level))
    }
  }
  return findings
}

function topicMissing({ name }: TopicTopology): Finding {
  const message = `topic "${name}" does not exist; provision with 'create' or declare it first`
  return { severity: 'error', code: 'memory.topic-missing', subject: name, message }
}

function groupMissing({ name }: TopicTopology, group: string): Finding {
  const message = `group "${group}" of topic "${name}" does not exist, so nothing is stored for it`
  return { severity: 'error', code: 'memory.group-missing', subject: `${name}.${group}`, message }
}

function levelMissing({ name }: TopicTopology, group: string, level: number): Finding {
  const message = `the retry level of ${level} ms does not exist`
  return { severity: 'error', code: 'memory.level-missing', subject: `${name}.${group}`, message }
}

function otherPartitions(topic: TopicLog, declared: TopicTopology): Finding {
  return {
    severity: 'error',
    code: 'memory.partitions',
    subject: topic.name,
    message: 'the number of partitions cannot change: it would move keys between them',
    declared: String(declared.partitions ?? 'none'),
    found: String(topic.partitions ?? 'none'),
  }
}

/** Why a receiver cannot be had: a topic or group that nobody declared. */
export function notDeclared(topic: string, group: string | null): HoldfastError {
  const what = group === null ? `topic "${topic}"` : `group "${group}" of topic "${topic}"`
  return new HoldfastError(
    group === null ? 'topic' : 'group',
    `${what} is not declared on this broker: provision it before receiving`,
    { topic },
  )
}
