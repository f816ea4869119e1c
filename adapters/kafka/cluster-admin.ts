import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { ClosedError, HoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { adminError, brokerErrorOf, isForbidden, isPassing, KAFKA } from './admin-errors.ts'
import type {
  BrokerDescription,
  CommittedOffset,
  DriverAdmin,
  FetchedRecord,
  NewTopic,
  PartitionInfo,
  PartitionOffset,
  TopicPartition,
} from './driver.ts'
import { clusterOf, type Cluster, type Clusters, type Node } from './cluster.ts'
import { fetchFrom } from './cluster-fetch.ts'
import {
  codeError,
  configOf,
  coordinatorOf,
  existing,
  leaderOf,
  required,
  RESOURCE,
  type KnownTopic,
} from './cluster-lookup.ts'
import { cutNode, type ConnectedNode } from './cluster-node.ts'
import type { KafkajsClient } from './options.ts'
import { readBatches, type Decompress } from './record-batch.ts'

/** What the admin needs. */
export interface ClusterAdminOptions {
  readonly client: KafkajsClient | Clusters
  readonly clock: Clock
  readonly random: Random
  /** For records that are read. */
  readonly decompress: Decompress
  /** How long any call may take, tries included. */
  readonly timeoutMs: number
}

/** Special timestamps of ListOffsets. */
const AT = Object.freeze({ earliest: '-2', latest: '-1' })
/** The member that a group has while it has none. */
const NOBODY = Object.freeze({ groupGenerationId: -1, memberId: '' })
/** Of transactions only what is committed. */
const READ_COMMITTED = 1
/** How long a read waits for records that may be there. */
const READ_WAIT_MS = 200

const backoff = exponential({ initialMs: 50, maxMs: 1_000 })

/**
 * The cluster's own matters through a client. Tries again what may pass, on other nodes too; a cluster
 * that does not answer in time is thrown away and connected anew by the next call.
 */
export class ClusterAdmin implements DriverAdmin {
  readonly #options: ClusterAdminOptions
  #cluster: Cluster | null = null
  #isClosed = false

  constructor(options: ClusterAdminOptions) {
    this.#options = options
  }

  async ping(deadline: Deadline): Promise<void> {
    const what = 'asking the cluster'
    const ask = async (cluster: Cluster): Promise<void> => {
      const node = await cluster.brokerPool.findConnectedBroker()
      await node.metadata([...cluster.targetTopics])
    }
    await this.#once(what, deadline, ask).catch((error: unknown) => {
      throw adminError(what, error)
    })
  }

  partitions(topic: string): Promise<readonly PartitionInfo[] | null> {
    return this.#call(`looking up topic "${topic}"`, async (cluster) => {
      const found = await existing(cluster, topic)
      return found === null ? null : partitionsOf(found)
    })
  }

  topics(): Promise<readonly string[]> {
    return this.#call('listing topics', async (cluster) => {
      const node = await cluster.brokerPool.findConnectedBroker()
      // None means all of them.
      const { topicMetadata } = await node.metadata([])
      return topicMetadata.map(({ topic }) => topic)
    })
  }

  createTopic(name: string, topic: NewTopic): Promise<'created' | 'exists'> {
    return this.#call(`making topic "${name}"`, async (cluster) => {
      const node = await cluster.findControllerBroker()
      const wanted = {
        topic: name,
        numPartitions: topic.partitions,
        replicationFactor: topic.replication,
        configEntries: Object.entries(topic.config).map(([key, value]) => ({ name: key, value })),
      }
      try {
        await node.createTopics({ topics: [wanted], timeout: this.#options.timeoutMs })
        return 'created'
      } catch (error) {
        if (brokerErrorOf(error)?.code === KAFKA.topicExists) return 'exists'
        throw error
      }
    })
  }

  describeTopic(name: string): Promise<Readonly<Record<string, string>>> {
    return this.#call(`describing topic "${name}"`, async (cluster) => {
      return configOf(await cluster.findControllerBroker(), RESOURCE.topic, name)
    })
  }

  describeBroker(nodeId?: number): Promise<BrokerDescription> {
    return this.#call('describing the brokers', async (cluster) => {
      const asked = await cluster.brokerPool.findConnectedBroker()
      const { brokers, controllerId } = await asked.metadata([...cluster.targetTopics])
      const ids = brokers.map((broker) => broker.nodeId)
      const which = nodeId ?? ids.find((id) => id === controllerId) ?? ids[0] ?? -1
      const node = await cluster.findBroker({ nodeId: which })
      return {
        brokers: ids.sort((one, other) => one - other),
        controller: controllerId === null || controllerId < 0 ? null : controllerId,
        config: await brokerConfigOf(node, String(which)),
      }
    })
  }

  offsets(topic: string, at: 'earliest' | 'latest'): Promise<readonly PartitionOffset[]> {
    return this.#call(`asking for the ${at} offsets of topic "${topic}"`, async (cluster) => {
      const found = await required(cluster, topic)
      const leaders = new Set(found.partitionMetadata.map(({ leader }) => leader))
      const lists = [...leaders].map(async (leader) => {
        const node = await leaderOf(cluster, leader, topic)
        const partitions = found.partitionMetadata
          .filter((one) => one.leader === leader)
          .map(({ partitionId }) => ({ partition: partitionId, timestamp: AT[at] }))
        const topics = [{ topic, partitions }]
        const { responses } = await node.listOffsets({ topics, isolationLevel: READ_COMMITTED })
        return responses.flatMap(({ partitions: listed }) => listed)
      })
      return (await Promise.all(lists))
        .flat()
        .map(({ partition, offset }) => ({ partition, offset: BigInt(offset) }))
        .sort(byNumber)
    })
  }

  groupOffsets(groupId: string, topic: string): Promise<readonly CommittedOffset[]> {
    return this.#call(`asking for the offsets of group "${groupId}"`, async (cluster) => {
      const found = await existing(cluster, topic)
      if (found === null) return []
      const partitions = found.partitionMetadata.map(({ partitionId }) => ({
        partition: partitionId,
      }))
      const node = await coordinatorOf(cluster, groupId)
      const { responses } = await node.offsetFetch({ groupId, topics: [{ topic, partitions }] })
      return responses
        .flatMap(({ partitions: committed }) => committed)
        .map(({ partition, offset, metadata }) => ({
          topic,
          partition,
          offset: BigInt(offset) < 0n ? null : BigInt(offset),
          metadata: metadata === '' ? null : metadata,
        }))
        .sort(byNumber)
    })
  }

  setGroupOffsets(
    groupId: string,
    topic: string,
    offsets: readonly PartitionOffset[],
  ): Promise<void> {
    return this.#call(`setting the offsets of group "${groupId}"`, async (cluster) => {
      const node = await coordinatorOf(cluster, groupId)
      const partitions = offsets.map(({ partition, offset, metadata = null }) => ({
        partition,
        offset: String(offset),
        metadata,
      }))
      await node.offsetCommit({ groupId, ...NOBODY, topics: [{ topic, partitions }] })
    })
  }

  deleteTopic(name: string): Promise<void> {
    return this.#call(`deleting topic "${name}"`, async (cluster) => {
      const node = await cluster.findControllerBroker()
      try {
        await node.deleteTopics({ topics: [name], timeout: this.#options.timeoutMs })
      } catch (error) {
        if (brokerErrorOf(error)?.code !== KAFKA.unknownTopic) throw error
      }
    })
  }

  read(
    { topic, partition }: TopicPartition,
    from: bigint,
    maxBytes: number,
  ): Promise<readonly FetchedRecord[]> {
    return this.#call(`reading topic "${topic}"`, async (cluster) => {
      const found = await required(cluster, topic)
      const info = found.partitionMetadata.find(({ partitionId }) => partitionId === partition)
      const node = (await leaderOf(cluster, info?.leader ?? -1, topic)) as ConnectedNode
      const limits = { maxWaitMs: READ_WAIT_MS, maxBytes, maxBytesPerPartition: maxBytes }
      const { parts } = await fetchFrom(node, [{ topic, partition, offset: from }], limits)
      const answer = parts[0]
      if (answer === undefined || answer.error !== 0) throw codeError(answer?.error ?? -1)
      const { records, aborted } = answer
      return (await readBatches(records, from, aborted, this.#options.decompress)).records
    })
  }

  /** Idempotent, never rejects. */
  async close(deadline: Deadline): Promise<void> {
    this.#isClosed = true
    await this.#drop(this.#cluster, deadline)
  }

  async #call<T>(what: string, work: (cluster: Cluster) => Promise<T>): Promise<T> {
    const { clock, random, timeoutMs } = this.#options
    const deadline = clock.now() + timeoutMs
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(what, deadline, work)
      } catch (error) {
        const waitMs = backoff.delayFor(attempt, random)
        if (!isPassing(error) || clock.now() + waitMs >= deadline) throw adminError(what, error)
        await sleep(clock, waitMs)
        await this.#refresh(deadline)
      }
    }
  }

  async #once<T>(
    what: string,
    deadline: Deadline,
    work: (cluster: Cluster) => Promise<T>,
  ): Promise<T> {
    const { clock, timeoutMs, client } = this.#options
    if (this.#isClosed) throw new ClosedError('broker')
    const cluster = (this.#cluster ??= clusterOf(client))
    let isConnected = false
    const connectedWork = async (): Promise<T> => {
      await connected(cluster)
      isConnected = true
      return work(cluster)
    }
    try {
      return await withDeadline(clock, deadline, connectedWork, what)
    } catch (error) {
      // A connection whose log-in failed halfway stays in that state for ever.
      if (isOver(error) || !isConnected) void this.#drop(cluster, clock.now() + timeoutMs)
      throw error
    }
  }

  /** What went wrong may be that nodes moved. */
  async #refresh(deadline: Deadline): Promise<void> {
    const cluster = this.#cluster
    if (cluster === null) return
    const refresh = (): Promise<void> => cluster.refreshMetadata()
    const { clock } = this.#options
    await withDeadline(clock, deadline, refresh, 'looking for nodes').catch(() => undefined)
  }

  /** Nobody waits for an answer any more; kafkajs would, and would go on connecting. */
  async #drop(cluster: Cluster | null, deadline: Deadline): Promise<void> {
    if (cluster === null) return
    if (this.#cluster === cluster) this.#cluster = null
    const { brokerPool } = cluster
    brokerPool.connectionPoolBuilder = { build: () => Promise.reject(new ClosedError('broker')) }
    for (const node of [brokerPool.seedBroker, ...Object.values(brokerPool.brokers)]) {
      if (node !== undefined) cutNode(node as ConnectedNode, null)
    }
    const disconnect = (): Promise<void> => cluster.disconnect()
    const ending = withDeadline(this.#options.clock, deadline, disconnect, 'disconnecting')
    await ending.catch(() => undefined)
  }
}

async function connected(cluster: Cluster): Promise<void> {
  await cluster.connect()
  if (Object.keys(cluster.brokerPool.brokers).length === 0) await cluster.refreshMetadata()
}

/** Nothing for who may not look: it is not needed to work. */
async function brokerConfigOf(node: Node, name: string): Promise<Readonly<Record<string, string>>> {
  try {
    return await configOf(node, RESOURCE.broker, name)
  } catch (error) {
    if (isForbidden(error)) return {}
    throw error
  }
}

function partitionsOf({ partitionMetadata }: KnownTopic): readonly PartitionInfo[] {
  return partitionMetadata
    .map(({ partitionId, leader, replicas, isr }) => ({
      partition: partitionId,
      leader: leader < 0 ? null : leader,
      replicas,
      isr,
    }))
    .sort(byNumber)
}

/** The cluster did not answer in time: what it still says belongs to nobody. */
function isOver(error: unknown): boolean {
  return error instanceof HoldfastError && error.code === 'timeout'
}

function byNumber(one: { partition: number }, other: { partition: number }): number {
  return one.partition - other.partition
}
