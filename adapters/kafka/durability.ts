import type { Finding } from '../../src/contract/topology.ts'
import type { PartitionInfo } from './driver.ts'
import type { FoundTopic } from './found.ts'
import { keepsAsLong, LEAST_HEADROOM_BYTES, maxMessageBytes, type TopicConfig } from './wanted.ts'

/** Copies that survive the loss of one while another is away. */
const SAFE_REPLICATION = 3

type Add = (severity: Finding['severity'], code: string, message: string, facts?: Facts) => void
type Facts = Pick<Finding, 'declared' | 'found'>

/** What is weak about a topic, whoever made it; `source` is the topic that a retry or dead letter came from. */
export function durabilityOf(topic: FoundTopic, source: FoundTopic | null): readonly Finding[] {
  const findings: Finding[] = []
  const add: Add = (severity, code, message, facts = {}) => {
    findings.push({ severity, code: `kafka.${code}`, subject: topic.name, message, ...facts })
  }
  const { partitions, config } = topic
  copies(partitions, add)
  if (config === null) {
    add('info', 'settings-unseen', 'the user of the connection may not describe it: not audited')
    return findings
  }
  insync(replicationOf(partitions), config, add)
  election(config, add)
  keeping(topic.role, config, add)
  if (source !== null && topic !== source) besideSource(topic, config, source, add)
  return findings
}

function copies(partitions: readonly PartitionInfo[], add: Add): void {
  const replication = replicationOf(partitions)
  if (replication < SAFE_REPLICATION) {
    const [copied, loss] =
      replication === 1 ? ['one copy', 'its broker'] : [`${replication} copies`, 'two brokers']
    const text = `${copied}: a stored message does not survive the loss of ${loss}`
    const facts = { declared: `at least ${SAFE_REPLICATION}`, found: String(replication) }
    add('warning', 'replication', text, facts)
  }
  const behind = partitions.filter(({ isr, replicas }) => isr.length < replicas.length).length
  if (behind > 0) add('warning', 'out-of-sync', `copies of ${behind} partitions are away or behind`)
  const headless = partitions.filter(({ leader }) => leader === null).length
  if (headless > 0) add('warning', 'no-leader', `${headless} partitions have no leader`)
}

function insync(replication: number, config: TopicConfig, add: Add): void {
  if (replication === 1) return
  const least = Number(config['min.insync.replicas'] ?? 1)
  const found = String(least)
  if (least < 2 && replication >= SAFE_REPLICATION) {
    const text =
      'min.insync.replicas is 1: a message counts as stored when a single broker has it, and is lost with that one'
    add('warning', 'min-insync', text, { declared: 'at least 2', found })
  }
  if (least >= replication) {
    const text =
      'min.insync.replicas is as large as the number of copies: nothing can be published while one broker is away'
    add('warning', 'min-insync', text, { declared: `less than ${replication}`, found })
  }
}

function election(config: TopicConfig, add: Add): void {
  if (config['unclean.leader.election.enable'] !== 'true') return
  const text =
    'unclean.leader.election.enable is true: a copy that lacks stored messages may become the leader, and they are lost'
  add('warning', 'unclean-election', text, { declared: 'false', found: 'true' })
}

function keeping(role: FoundTopic['role'], config: TopicConfig, add: Add): void {
  const policy = config['cleanup.policy'] ?? 'delete'
  if (role === 'offsets' || !policy.includes('compact')) return
  const facts = { declared: 'delete', found: policy }
  if (role === 'source') {
    const text =
      'compacted: of several messages of one key only the last is kept for who comes late'
    add('info', 'compacted', text, facts)
    return
  }
  const text =
    'compacted: several messages of one key wait here, and all but the last would be lost'
  add('error', 'compacted', text, facts)
}

function besideSource(topic: FoundTopic, config: TopicConfig, source: FoundTopic, add: Add): void {
  const [own, its] = [replicationOf(topic.partitions), replicationOf(source.partitions)]
  if (own < its) {
    const text = `fewer copies than the topic "${source.name}" has`
    add('warning', 'replication', text, { declared: String(its), found: String(own) })
  }
  if (source.config !== null) likeSource(config, source.config, add)
  if (topic.role === 'retry' && config['message.timestamp.type'] !== 'LogAppendTime') {
    const text =
      "message.timestamp.type is not LogAppendTime: retries are due by the clock of whoever sent them, not by the broker's"
    const found = config['message.timestamp.type'] ?? 'CreateTime'
    add('warning', 'timestamp-type', text, { declared: 'LogAppendTime', found })
  }
}

function likeSource(config: TopicConfig, source: TopicConfig, add: Add): void {
  const [largest, its] = [maxMessageBytes(config), maxMessageBytes(source)]
  const needed = its + LEAST_HEADROOM_BYTES
  if (largest < needed) {
    const text =
      largest < its
        ? 'it takes smaller messages than the topic they come from: the largest could not be stored here, and would stay in their lane'
        : 'it takes messages no larger than the topic they come from: the largest of them have no room here for the headers that they get, and would lose their own or stay in their lane'
    const facts = { declared: `at least ${needed}`, found: String(largest) }
    add('warning', 'max-message-bytes', text, facts)
  }
  const [kept, wanted] = [retentionOf(config), retentionOf(source)]
  if (!keepsAsLong(kept, wanted)) {
    const facts = { declared: wanted < 0 ? '-1' : `at least ${wanted}`, found: String(kept) }
    add('warning', 'retention', 'it forgets sooner than the topic they come from', facts)
  }
}

/** Copies that every partition has at least. */
export function replicationOf(partitions: readonly PartitionInfo[]): number {
  return Math.min(...partitions.map(({ replicas }) => replicas.length))
}

/** For how long records are kept, in milliseconds; -1 is for ever. */
function retentionOf(config: TopicConfig): number {
  return Number(config['retention.ms'] ?? -1)
}
