import {
  checkedGroupName,
  checkedTopicName,
  deadName,
  queueName,
  retryName,
} from '../../src/contract/names.ts'
import type { TopicTopology } from '../../src/contract/topology.ts'

/**
 * Names of ours for one topic: exchange and queues, with the prefix of the environment before them.
 * Asking never throws; `checkNames` is asked before anything is declared.
 */
export class TopicNames {
  /** The topic exchange. */
  readonly exchange: string

  constructor(prefix: string, topic: string) {
    this.exchange = prefix + topic
  }

  queue(group: string): string {
    return `${this.exchange}.${group}`
  }

  /** Partitions count from 0. */
  partition(group: string, partition: number): string {
    return `${this.exchange}.${group}.${partition}`
  }

  /** Queue of a delay level, and the fanout exchange that leads to it. */
  retry(group: string, levelMs: number): string {
    return `${this.exchange}.${group}.retry.${levelMs}`
  }

  dead(group: string): string {
    return `${this.exchange}.${group}.dead`
  }

  /** A colon is in no name of a topic or group. */
  members(group: string): string {
    return `${this.exchange}.${group}:members`
  }
}

/** Throws an error with code `topic` or `group` when a name is not allowed or too long for any broker. */
export function checkNames(prefix: string, { name, groups, retryLevelsMs }: TopicTopology): void {
  const exchange = checkedTopicName(prefix + checkedTopicName(name))
  for (const group of groups) {
    queueName(exchange, checkedGroupName(group))
    deadName(exchange, group)
    for (const levelMs of retryLevelsMs) retryName(exchange, group, levelMs)
  }
}
