import { HoldfastError, shown } from './errors.ts'

/** Longest derived name any of the brokers takes, in bytes. */
const LONGEST_NAME = 249

const topicPattern = /^[A-Za-z0-9._-]+$/
const groupPattern = /^[A-Za-z0-9_-]+$/

/** Returns the name, or throws an error with code `topic` that says what is allowed. */
export function checkedTopicName(name: string): string {
  if (typeof name === 'string' && topicPattern.test(name) && name !== '.' && name !== '..') {
    return checkedLength(name, 'topic')
  }
  throw new HoldfastError(
    'topic',
    `topic name ${shown(name)}: allowed are A-Z, a-z, 0-9, ".", "_" and "-", at least one`,
  )
}

/** Returns the name, or throws an error with code `group` that says what is allowed. */
export function checkedGroupName(name: string): string {
  const reserved = name === 'dead' || name === 'retry' || /^[0-9]+$/.test(name)
  if (typeof name === 'string' && groupPattern.test(name) && !reserved) {
    return checkedLength(name, 'group')
  }
  throw new HoldfastError(
    'group',
    `group name ${shown(name)}: allowed are A-Z, a-z, 0-9, "_" and "-" (no dot), but not "dead", "retry" or digits only, which derived names use`,
  )
}

/** The group's own destination: a queue on RabbitMQ, the inbox's consumer name everywhere. */
export function queueName(topic: string, group: string): string {
  return checkedLength(`${topic}.${group}`, 'group')
}

/** Where messages of a group wait for a retry. */
export function retryName(topic: string, group: string, delayMs: number): string {
  return checkedLength(`${topic}.${group}.retry.${delayMs}`, 'group')
}

/** Where messages of a group that were given up end. */
export function deadName(topic: string, group: string): string {
  return checkedLength(`${topic}.${group}.dead`, 'group')
}

function checkedLength(name: string, what: 'topic' | 'group'): string {
  if (name.length <= LONGEST_NAME) return name
  throw new HoldfastError(
    what,
    `name "${name.slice(0, 40)}…" has ${name.length} bytes; at most ${LONGEST_NAME} fit every broker: shorten the topic, the group or the prefix`,
  )
}
