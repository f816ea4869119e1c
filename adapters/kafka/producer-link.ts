import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { brokerErrorOf } from './admin-errors.ts'
import { clusterOf, type Cluster, type Clusters, type Metadata, type Node } from './cluster.ts'
import { cutNode, encoded, type ConnectedNode } from './cluster-node.ts'
import type { KafkajsClient } from './options.ts'
import {
  LAST_PRODUCE_VERSION,
  LEAST_PRODUCE_VERSION,
  PRODUCE_KEY,
  readProduceAnswer,
  type ProduceAnswer,
} from './produce-protocol.ts'
import { exchangeOf, type Request } from './request.ts'

/** The number a broker gave this producer. */
export interface ProducerIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
}

interface ProducingNode extends ConnectedNode {
  initProducerId(request: object): Promise<{ producerId: string; producerEpoch: number }>
}

interface ProducingCluster extends Cluster {
  readonly brokerPool: Cluster['brokerPool'] & {
    readonly metadata: Metadata | null
    readonly seedBroker?: ProducingNode
  }
}

/** Says why a topic's partitions have no leader that could be written to. */
export type NoLeader = 'no-topic' | 'no-partition' | 'no-leader'

/** Error code of a topic that the broker does not know. */
const UNKNOWN_TOPIC = 3
/** A name the request has to carry although there is no transaction. */
const TRANSACTION_TIMEOUT_MS = 60_000
/** How long a connection may take to end in order. */
const GOODBYE_MS = 1_000

/**
 * Connections of one producer to the nodes of a cluster, through a client: log-in, versions and metadata
 * are the client's; what is written on them, and when they are cut, is decided here.
 */
export class ProducerLink {
  readonly #cluster: ProducingCluster
  readonly #clock: Clock
  /** Ends waiting for connections. */
  readonly #ending = new AbortController()
  readonly #leaders = new Map<string, ReadonlyMap<number, number>>()

  constructor(client: KafkajsClient | Clusters, clock: Clock) {
    this.#cluster = clusterOf(client) as ProducingCluster
    this.#clock = clock
  }

  /** Connects to some node and gets a number for the producer. */
  async open(topics: Iterable<string>, deadline: Deadline): Promise<ProducerIdentity> {
    const cluster = this.#cluster
    const work = async (): Promise<ProducerIdentity> => {
      await this.#connect(topics)
      const node = (await cluster.brokerPool.findConnectedBroker()) as ProducingNode
      const given = await node.initProducerId({ transactionTimeout: TRANSACTION_TIMEOUT_MS })
      return { producerId: BigInt(given.producerId), producerEpoch: given.producerEpoch }
    }
    const identity = await this.#within(deadline, work, 'connecting to Kafka')
    this.#learn()
    return identity
  }

  /** Connects to some node. */
  async connect(topics: Iterable<string>, deadline: Deadline): Promise<void> {
    const work = (): Promise<void> => this.#connect(topics)
    await this.#within(deadline, work, 'connecting to Kafka')
    this.#learn()
  }

  /** The number of the node that keeps a group (type 0) or a transactional id (type 1). */
  async coordinatorOf(key: string, type: 0 | 1, deadline: Deadline): Promise<number> {
    const { brokerPool } = this.#cluster
    const work = async (): Promise<number> => {
      const asked = await brokerPool.findConnectedBroker()
      const found = await asked.findGroupCoordinator({ groupId: key, coordinatorType: type })
      const { nodeId } = found.coordinator
      if (brokerPool.brokers[nodeId] === undefined) await this.#cluster.refreshMetadata()
      return nodeId
    }
    return this.#within(deadline, work, 'looking for the coordinator')
  }

  /** Any other request. A node that does not answer in time is cut. */
  async ask<Asked, Answer>(
    node: ConnectedNode,
    request: Request<Asked, Answer>,
    asked: Asked,
    deadline: Deadline,
  ): Promise<Answer> {
    const send = (): Promise<unknown> => node.connectionPool.send(exchangeOf(request, asked))
    try {
      return (await this.#within(deadline, send, request.name)) as Answer
    } catch (error) {
      if (brokerErrorOf(error) === null) cutNode(node, error)
      throw error
    }
  }

  /** Whether something is known about the topic. */
  knows(topic: string): boolean {
    return this.#leaders.has(topic)
  }

  /** Looks up the leaders of these topics and of all earlier ones. */
  async refresh(topics: Iterable<string>, deadline: Deadline): Promise<void> {
    for (const topic of topics) this.#cluster.targetTopics.add(topic)
    const refresh = (): Promise<void> => this.#cluster.refreshMetadata()
    await this.#within(deadline, refresh, 'looking for leaders')
    this.#learn()
  }

  /** The node that leads the partition, as far as was learnt. */
  leaderOf(topic: string, partition: number): number | NoLeader {
    const leaders = this.#leaders.get(topic)
    if (leaders === undefined) return 'no-topic'
    const leader = leaders.get(partition)
    if (leader === undefined) return 'no-partition'
    return leader < 0 ? 'no-leader' : leader
  }

  /** A connection to that node, with its log-in still good. */
  async connected(nodeId: number, deadline: Deadline): Promise<ProducingNode> {
    const connect = (): Promise<Node> => this.#cluster.findBroker({ nodeId })
    const what = `connecting to node ${nodeId}`
    return (await this.#within(deadline, connect, what)) as ProducingNode
  }

  /**
   * Writes a Produce request and waits for its answer. `encode` is called when it is about to be
   * written. A rejection says nothing about what the broker did; the connection is cut then, so that
   * no answer of an earlier request is taken for one of a later.
   */
  async produce(
    node: ProducingNode,
    encode: () => Promise<Buffer> | Buffer,
    deadline: Deadline,
  ): Promise<ProduceAnswer> {
    const highest = node.versions?.[PRODUCE_KEY]?.maxVersion ?? LEAST_PRODUCE_VERSION
    const apiVersion = Math.min(highest, LAST_PRODUCE_VERSION)
    const exchange = {
      request: {
        apiKey: PRODUCE_KEY,
        apiVersion,
        apiName: 'Produce',
        expectResponse: () => true,
        encode: async () => encoded(await encode()),
      },
      response: {
        decode: async (payload: Buffer) => readProduceAnswer(payload, apiVersion),
        parse: async (answer: ProduceAnswer) => answer,
      },
    }
    const send = (): Promise<unknown> => node.connectionPool.send(exchange)
    try {
      return (await withDeadline(this.#clock, deadline, send, 'the answer')) as ProduceAnswer
    } catch (error) {
      cutNode(node, error)
      throw error
    }
  }

  /** Ends the connections in order, within a second; who waits for one is told at once. Never rejects. */
  async close(): Promise<void> {
    this.#ending.abort(new ClosedError('the producer'))
    const disconnect = (): Promise<void> => this.#cluster.disconnect()
    const deadline = this.#clock.now() + GOODBYE_MS
    const ending = withDeadline(this.#clock, deadline, disconnect, 'disconnecting')
    await ending.catch(() => this.cut())
  }

  /** Resets all connections: what has not left this host never will. Others are made when they are needed. */
  cut(): void {
    const { brokers, seedBroker } = this.#cluster.brokerPool
    const nodes = new Set([...(Object.values(brokers) as ProducingNode[]), seedBroker])
    for (const node of nodes) if (node !== undefined) cutNode(node, null)
  }

  async #connect(topics: Iterable<string>): Promise<void> {
    const cluster = this.#cluster
    await cluster.connect()
    for (const topic of topics) cluster.targetTopics.add(topic)
    await cluster.refreshMetadata()
  }

  #within<T>(deadline: Deadline, work: () => Promise<T>, what: string): Promise<T> {
    return withDeadline(this.#clock, deadline, work, what, this.#ending.signal)
  }

  #learn(): void {
    for (const { topic, topicErrorCode, partitionMetadata } of this.#cluster.brokerPool.metadata
      ?.topicMetadata ?? []) {
      if (topicErrorCode === UNKNOWN_TOPIC) this.#leaders.delete(topic)
      else {
        const leaders = partitionMetadata.map(({ partitionId, leader }) => {
          return [partitionId, leader] as const
        })
        this.#leaders.set(topic, new Map(leaders))
      }
    }
  }
}
