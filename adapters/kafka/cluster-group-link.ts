import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { brokerErrorOf } from './admin-errors.ts'
import type { CommitOffset, CommittedOffset, LogRange, TopicPartition } from './driver.ts'
import type { FetchAnswers, FetchLimits, FetchPart } from './fetch-protocol.ts'
import type {
  GroupLink,
  GroupProtocol,
  HeartbeatLink,
  Joined,
  Leaders,
  Member,
} from './group-link.ts'
import { clusterOf, type Cluster, type Clusters, type Metadata, type Node } from './cluster.ts'
import { fetchFrom } from './cluster-fetch.ts'
import { coordinatorOf } from './cluster-lookup.ts'
import { cutNode, type ConnectedNode } from './cluster-node.ts'
import type { KafkajsClient } from './options.ts'
import { exchangeOf } from './request.ts'
import { stableOffsets } from './transaction-requests.ts'

/** What a link needs. */
export interface ClusterGroupLinkOptions {
  readonly client: KafkajsClient | Clusters
  readonly clock: Clock
  readonly groupId: string
  readonly topics: readonly string[]
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
}

/** The requests of a member, as kafkajs makes them. */
interface MemberNode extends ConnectedNode {
  joinGroup(request: object): Promise<{
    readonly generationId: number
    readonly groupProtocol: string
    readonly leaderId: string
    readonly memberId: string
    readonly members: readonly { readonly memberId: string; readonly memberMetadata: Buffer }[]
  }>
  syncGroup(request: object): Promise<{ readonly memberAssignment: Buffer | null }>
  heartbeat(request: object): Promise<unknown>
  leaveGroup(request: object): Promise<unknown>
}

interface MemberCluster extends Cluster {
  readonly brokerPool: Cluster['brokerPool'] & {
    readonly metadata: Metadata | null
    readonly seedBroker?: ConnectedNode
    connectionPoolBuilder: { build(): Promise<unknown> }
  }
}

/** Error code of a topic that the broker does not know. */
const UNKNOWN_TOPIC = 3
const READ_COMMITTED = 1
/** Special timestamps of ListOffsets. */
const EARLIEST = '-2'
const LATEST = '-1'

/** The requests of one consumer on connections of its own: log-in, versions and addresses are the client's. */
export class ClusterGroupLink implements GroupLink {
  readonly #options: ClusterGroupLinkOptions
  readonly #cluster: MemberCluster
  readonly #topics: Set<string>
  readonly #leaders = new Map<string, Leaders>()
  #coordinator: MemberNode | null = null

  constructor(options: ClusterGroupLinkOptions) {
    this.#options = options
    this.#cluster = clusterOf(options.client) as MemberCluster
    this.#topics = new Set(options.topics)
  }

  async open(deadline: Deadline): Promise<void> {
    await this.#within(deadline, 'connecting to Kafka', () => this.#cluster.connect())
    await this.refresh([], deadline)
  }

  async join(
    memberId: string,
    protocols: readonly GroupProtocol[],
    deadline: Deadline,
  ): Promise<Joined> {
    const { groupId, sessionTimeoutMs, rebalanceTimeoutMs } = this.#options
    const joined = await this.#coordinated(deadline, 'joining', (node) =>
      node.joinGroup({
        groupId,
        memberId,
        sessionTimeout: sessionTimeoutMs,
        rebalanceTimeout: rebalanceTimeoutMs,
        groupProtocols: protocols,
      }),
    )
    return {
      member: { id: joined.memberId, generation: joined.generationId },
      isLeader: joined.leaderId === joined.memberId,
      protocol: joined.groupProtocol,
      members: joined.members.map((one) => ({ id: one.memberId, metadata: one.memberMetadata })),
    }
  }

  async sync(
    member: Member,
    assignments: ReadonlyMap<string, Buffer>,
    deadline: Deadline,
  ): Promise<Buffer> {
    const groupAssignment = [...assignments].map(([memberId, memberAssignment]) => {
      return { memberId, memberAssignment }
    })
    const answer = await this.#coordinated(deadline, 'getting partitions', (node) =>
      node.syncGroup({ ...this.#sayWho(member, 'generationId'), groupAssignment }),
    )
    return answer.memberAssignment ?? Buffer.alloc(0)
  }

  async heartbeat(member: Member, deadline: Deadline): Promise<void> {
    await this.#coordinated(deadline, 'a heartbeat', (node) =>
      node.heartbeat(this.#sayWho(member, 'groupGenerationId')),
    )
  }

  beside(): HeartbeatLink {
    const link = new ClusterGroupLink(this.#options)
    let opening: Promise<void> | null = null
    return {
      heartbeat: async (member, deadline) => {
        opening ??= link.open(deadline)
        await opening
        await link.heartbeat(member, deadline)
      },
      close: (deadline) => link.close(deadline),
    }
  }

  async leave(member: Member, deadline: Deadline): Promise<void> {
    const { groupId } = this.#options
    await this.#coordinated(deadline, 'leaving', (node) =>
      node.leaveGroup({ groupId, memberId: member.id }),
    )
  }

  async commit(
    member: Member,
    offsets: readonly CommitOffset[],
    deadline: Deadline,
  ): Promise<void> {
    const topics = byTopic(offsets, ({ partition, offset, metadata }) => {
      return { partition, offset: offset.toString(), metadata: metadata ?? '' }
    })
    await this.#coordinated(deadline, 'committing', (node) =>
      node.offsetCommit({ ...this.#sayWho(member, 'groupGenerationId'), topics }),
    )
  }

  async committed(
    parts: readonly TopicPartition[],
    deadline: Deadline,
  ): Promise<readonly CommittedOffset[]> {
    const { groupId } = this.#options
    return this.#coordinated(deadline, 'asking for offsets', async (node) => {
      // A transaction that is open may change them: before it has ended nobody may go on from them.
      if ((node.versions?.[stableOffsets.key]?.maxVersion ?? 0) >= stableOffsets.version) {
        const asked = exchangeOf(stableOffsets, { groupId, parts })
        return (await node.connectionPool.send(asked)) as readonly CommittedOffset[]
      }
      return this.#offsetsOf(node, parts)
    })
  }

  /** As before Kafka 2.5, which knows no more of transactions. */
  async #offsetsOf(
    node: MemberNode,
    parts: readonly TopicPartition[],
  ): Promise<readonly CommittedOffset[]> {
    const { groupId } = this.#options
    const topics = byTopic(parts, ({ partition }) => ({ partition }))
    const { responses } = await node.offsetFetch({ groupId, topics })
    return responses.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, offset, metadata }) => ({
        topic,
        partition,
        offset: BigInt(offset) < 0n ? null : BigInt(offset),
        metadata: metadata === '' ? null : metadata,
      })),
    )
  }

  forgetCoordinator(): void {
    this.#coordinator = null
  }

  async refresh(topics: readonly string[], deadline: Deadline): Promise<void> {
    for (const topic of topics) this.#topics.add(topic)
    for (const topic of this.#topics) this.#cluster.targetTopics.add(topic)
    await this.#within(deadline, 'looking for leaders', () => this.#cluster.refreshMetadata())
    for (const known of this.#cluster.brokerPool.metadata?.topicMetadata ?? []) {
      const { topic, topicErrorCode, partitionMetadata } = known
      if (topicErrorCode === UNKNOWN_TOPIC) this.#leaders.delete(topic)
      else if (partitionMetadata.length > 0) {
        const leaders = partitionMetadata.map(({ partitionId, leader }) => {
          return [partitionId, leader] as const
        })
        this.#leaders.set(topic, new Map(leaders))
      }
    }
  }

  leadersOf(topic: string): Leaders | null {
    return this.#leaders.get(topic) ?? null
  }

  async fetch(
    nodeId: number,
    parts: readonly FetchPart[],
    limits: FetchLimits,
    deadline: Deadline,
  ): Promise<FetchAnswers> {
    const node = (await this.#node(nodeId, deadline)) as MemberNode
    const what = `a fetch from node ${nodeId}`
    return this.#within(deadline, what, () => fetchFrom(node, parts, limits))
  }

  async logOf({ topic, partition }: TopicPartition, deadline: Deadline): Promise<LogRange> {
    const leader = this.leadersOf(topic)?.get(partition) ?? -1
    const node = await this.#node(leader, deadline)
    const ask = async (timestamp: string): Promise<bigint> => {
      const topics = [{ topic, partitions: [{ partition, timestamp }] }]
      const { responses } = await node.listOffsets({ topics, isolationLevel: READ_COMMITTED })
      return BigInt(responses[0]?.partitions[0]?.offset ?? -1)
    }
    return this.#within(deadline, `asking for offsets of ${topic}/${partition}`, async () => {
      return { begin: await ask(EARLIEST), end: await ask(LATEST) }
    })
  }

  cut(nodeId: number): void {
    const node = this.#cluster.brokerPool.brokers[nodeId] as ConnectedNode | undefined
    if (node !== undefined) cutNode(node, null)
    if (this.#coordinator === node) this.#coordinator = null
  }

  async close(deadline: Deadline): Promise<void> {
    const { brokerPool } = this.#cluster
    const nodes = new Set([...Object.values(brokerPool.brokers), brokerPool.seedBroker])
    // Nobody waits for an answer any more; kafkajs would, and would go on connecting.
    brokerPool.connectionPoolBuilder = { build: () => Promise.reject(closed()) }
    for (const node of nodes) if (node !== undefined) cutNode(node as ConnectedNode, null)
    const disconnect = (): Promise<void> => this.#cluster.disconnect()
    await this.#within(deadline, 'disconnecting', disconnect).catch(() => undefined)
  }

  #sayWho({ id, generation }: Member, as: 'generationId' | 'groupGenerationId'): object {
    return { groupId: this.#options.groupId, memberId: id, [as]: generation }
  }

  #within<T>(deadline: Deadline, what: string, work: () => Promise<T>): Promise<T> {
    return withDeadline(this.#options.clock, deadline, work, what)
  }

  #node(nodeId: number, deadline: Deadline): Promise<Node> {
    return this.#within(deadline, `connecting to node ${nodeId}`, () =>
      this.#cluster.findBroker({ nodeId }),
    )
  }

  /** An answer that does not come in time leaves its connection in doubt: it is cut, or the next request would wait behind it. */
  async #coordinated<T>(
    deadline: Deadline,
    what: string,
    work: (node: MemberNode) => Promise<T>,
  ): Promise<T> {
    const node = await this.#within(deadline, 'looking for the group', () => this.#findGroup())
    let isOver = false
    try {
      return await this.#within(deadline, what, () => work(node).finally(() => (isOver = true)))
    } catch (error) {
      if (!isOver) cutNode(node, error)
      // Who did not answer may be gone, although somebody in its place takes connections.
      const hasAnswered = isOver && brokerErrorOf(error) !== null
      if (!hasAnswered && this.#coordinator === node) this.#coordinator = null
      throw error
    }
  }

  async #findGroup(): Promise<MemberNode> {
    const known = this.#coordinator
    if (known === null) {
      const found = await coordinatorOf(this.#cluster, this.#options.groupId)
      this.#coordinator = found as MemberNode
      return this.#coordinator
    }
    try {
      // Connected again, or logged in again, where that is due.
      return (await this.#cluster.findBroker({ nodeId: known.nodeId as number })) as MemberNode
    } catch (error) {
      // While it is away another node keeps the group.
      if (this.#coordinator === known) this.#coordinator = null
      throw error
    }
  }
}

function byTopic<T extends TopicPartition, P>(
  parts: readonly T[],
  as: (part: T) => P,
): { readonly topic: string; readonly partitions: P[] }[] {
  const topics = new Map<string, P[]>()
  for (const part of parts) {
    const partitions = topics.get(part.topic)
    if (partitions === undefined) topics.set(part.topic, [as(part)])
    else partitions.push(as(part))
  }
  return [...topics].map(([topic, partitions]) => ({ topic, partitions }))
}

/** kafkajs tries again unless it is told not to. */
function closed(): Error {
  return Object.assign(new ClosedError('the consumer'), { retriable: false })
}
