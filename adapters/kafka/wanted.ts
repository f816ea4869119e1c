import type { TopicTopology } from '../../src/contract/topology.ts'
import type { TopicNames } from './names-of.ts'
import { DEFAULT_MAX_MESSAGE_BYTES } from './topics.ts'

/** What a topic is for. */
export type Role = 'source' | 'retry' | 'dead'

/** Settings of a topic, by Kafka's names. */
export type TopicConfig = Readonly<Record<string, string>>

/** A topic that a group needs beside the one it consumes. */
export interface CompanionTopic {
  readonly name: string
  readonly role: 'retry' | 'dead'
  readonly config: TopicConfig
}

/** Settings that nothing of ours is made without. */
const SAFE: TopicConfig = Object.freeze({ 'unclean.leader.election.enable': 'false' })

/** Room for what headers of a retry or dead letter add to a record of the largest size, in what is made here. */
const HEADROOM_BYTES = 65_536
/** They add less than that: reason, error text, counts and where it came from. */
export const LEAST_HEADROOM_BYTES = 8_192
/** A retry outlives a week without consumers, however soon the source forgets. */
const LEAST_RETENTION_MS = 7 * 24 * 3_600_000

/** Copies that have to have a record: a majority, and one less than all so that one may be away. */
export function minInsyncOf(replication: number): number {
  return Math.max(1, Math.min(Math.floor(replication / 2) + 1, replication - 1))
}

/** Settings that a source topic of ours is made with; the rest is the broker's. */
export function sourceConfig(minInsyncReplicas: number): TopicConfig {
  return { ...SAFE, 'min.insync.replicas': String(minInsyncReplicas) }
}

/**
 * Retry and dead-letter topics of a group, in the order in which they are made: the dead-letter topic
 * last, since it being there says that the group was declared before.
 */
export function companionsOf(
  names: TopicNames,
  group: string,
  { retryLevelsMs }: Pick<TopicTopology, 'retryLevelsMs'>,
  source: TopicConfig,
): readonly CompanionTopic[] {
  const levels = [...new Set([0, ...retryLevelsMs])]
  const retries = levels.map((levelMs): CompanionTopic => ({
    name: names.retry(group, levelMs),
    role: 'retry',
    config: {
      ...companionConfig(source),
      // The broker's clock says when a retry is due, whatever the sender's says.
      'message.timestamp.type': 'LogAppendTime',
      'retention.ms': String(retryRetention(source, levelMs)),
    },
  }))
  const config = { ...companionConfig(source), 'retention.ms': '-1' }
  return [...retries, { name: names.dead(group), role: 'dead', config }]
}

function companionConfig(source: TopicConfig): TopicConfig {
  return {
    ...SAFE,
    'min.insync.replicas': source['min.insync.replicas'] ?? '1',
    'cleanup.policy': 'delete',
    'retention.bytes': '-1',
    'max.message.bytes': String(maxMessageBytes(source) + HEADROOM_BYTES),
  }
}

function retryRetention(source: TopicConfig, levelMs: number): number {
  const kept = Number(source['retention.ms'] ?? LEAST_RETENTION_MS)
  return kept < 0 ? -1 : Math.max(kept, LEAST_RETENTION_MS) + levelMs
}

/** Largest batch that a topic of these settings takes. */
export function maxMessageBytes(config: TopicConfig): number {
  return Number(config['max.message.bytes'] ?? DEFAULT_MAX_MESSAGE_BYTES)
}

/** Whether the first of two retentions in milliseconds keeps records as long as the second; -1 is for ever. */
export function keepsAsLong(one: number, other: number): boolean {
  return one < 0 || (other >= 0 && one >= other)
}
