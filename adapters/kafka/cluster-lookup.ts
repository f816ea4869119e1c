import { HoldfastError } from '../../src/contract/errors.ts'
import { isPassing, KAFKA } from './admin-errors.ts'
import type { Cluster, Metadata, Node } from './cluster.ts'

/** What a node knows of a topic. */
export type KnownTopic = Metadata['topicMetadata'][number]

/** Kinds of resources that have a configuration. */
export const RESOURCE = { topic: 2, broker: 4 } as const

/** A node that was just told of a topic may know it before the others do: `null` only when none knows it. */
export async function existing(cluster: Cluster, topic: string): Promise<KnownTopic | null> {
  const asked = new Set<Node>()
  const first = await cluster.brokerPool.findConnectedBroker()
  for (const node of [first, ...Object.values(cluster.brokerPool.brokers)]) {
    if (asked.has(node)) continue
    asked.add(node)
    const found = await topicOn(cluster, node, topic, node === first)
    if (found !== null) return found
  }
  return null
}

async function topicOn(
  cluster: Cluster,
  node: Node,
  topic: string,
  isFirst: boolean,
): Promise<KnownTopic | null> {
  try {
    if (!isFirst) await cluster.findBroker({ nodeId: node.nodeId as number })
    const { topicMetadata } = await node.metadata([topic])
    const found = topicMetadata.find((one) => one.topic === topic)
    if (found === undefined || found.topicErrorCode === KAFKA.unknownTopic) return null
    if (found.topicErrorCode !== 0) throw codeError(found.topicErrorCode)
    return found
  } catch (error) {
    // A node that is away knows nothing.
    if (!isFirst && isPassing(error)) return null
    throw error
  }
}

/** Rejects when there is no such topic. */
export async function required(cluster: Cluster, topic: string): Promise<KnownTopic> {
  const found = await existing(cluster, topic)
  if (found !== null) return found
  throw new HoldfastError('topology', `there is no topic "${topic}"`)
}

/** The partition's leader, connected. Rejects with code `unavailable` while it has none. */
export async function leaderOf(cluster: Cluster, leader: number, topic: string): Promise<Node> {
  if (leader >= 0) return cluster.findBroker({ nodeId: leader })
  throw new HoldfastError('unavailable', `a partition of topic "${topic}" has no leader`)
}

/** The node that keeps a group's members and offsets. */
export async function coordinatorOf(cluster: Cluster, groupId: string): Promise<Node> {
  const node = await cluster.brokerPool.findConnectedBroker()
  const { coordinator } = await node.findGroupCoordinator({ groupId, coordinatorType: 0 })
  return cluster.findBroker({ nodeId: coordinator.nodeId })
}

/** All settings in force of a topic or broker. */
export async function configOf(
  node: Node,
  type: number,
  name: string,
): Promise<Readonly<Record<string, string>>> {
  const { resources } = await node.describeConfigs({ resources: [{ type, name }] })
  const entries = resources.flatMap(({ configEntries }) => configEntries)
  return Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]))
}

const moved: readonly number[] = [KAFKA.leaderNotAvailable, KAFKA.notLeader]

/** A broker's word for why it did not do it. */
export function codeError(code: number): Error {
  return Object.assign(new Error(`error code ${code}`), {
    code,
    retriable: moved.includes(code),
  })
}
