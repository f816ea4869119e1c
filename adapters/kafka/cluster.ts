import { CapabilityError } from '../../src/contract/errors.ts'
import type { KafkajsClient } from './options.ts'

/**
 * The insides of kafkajs 2.2.4 that the admin works on. Its public admin joins a group to set offsets,
 * cannot read without joining one, and refuses every answer about the cluster while a partition of any
 * topic has no leader.
 */
export interface Cluster {
  readonly targetTopics: Set<string>
  readonly brokerPool: BrokerPool
  connect(): Promise<void>
  disconnect(): Promise<void>
  refreshMetadata(): Promise<void>
  findBroker(which: { readonly nodeId: number | string }): Promise<Node>
  findControllerBroker(): Promise<Node>
}

/** A node of kafkajs itself. */
interface KafkajsNode extends Node {
  lookupRequest: Lookup
}

interface BrokerPool {
  readonly brokers: Readonly<Record<string, Node>>
  readonly seedBroker?: Node
  connectionPoolBuilder: { build(): Promise<unknown> }
  findConnectedBroker(): Promise<Node>
}

/** What a request encodes to and how its answer is read. */
interface Exchange {
  readonly request: unknown
  readonly response: {
    readonly decode: (raw: Buffer) => Promise<unknown>
    readonly parse: (data: unknown) => Promise<unknown>
  }
}

type Lookup = (apiKey: number, definition: unknown) => (request: unknown) => Exchange

/** One node of the cluster. Every request ends within the client's request timeout. */
export interface Node {
  readonly nodeId: number | null
  metadata(topics: readonly string[]): Promise<Metadata>
  createTopics(request: object): Promise<unknown>
  deleteTopics(request: object): Promise<unknown>
  describeConfigs(request: object): Promise<Configs>
  listOffsets(request: object): Promise<Listed<{ readonly offset: string }>>
  findGroupCoordinator(request: object): Promise<{
    readonly coordinator: { readonly nodeId: number }
  }>
  offsetFetch(request: object): Promise<Listed<{ offset: string; metadata: string | null }>>
  offsetCommit(request: object): Promise<unknown>
}

/** Answer about topics and the nodes that are up. */
export interface Metadata {
  readonly brokers: readonly { readonly nodeId: number }[]
  readonly controllerId: number | null
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number
    readonly topic: string
    readonly partitionMetadata: readonly {
      readonly partitionId: number
      readonly leader: number
      readonly replicas: readonly number[]
      readonly isr: readonly number[]
    }[]
  }[]
}

interface Configs {
  readonly resources: readonly {
    readonly configEntries: readonly { readonly configName: string; readonly configValue: string }[]
  }[]
}

interface Listed<T> {
  readonly responses: readonly {
    readonly topic: string
    readonly partitions: readonly ({ readonly partition: number } & T)[]
  }[]
}

/** Always there once a group was used; asking for it keeps clients from asking for all topics. */
export const SOME_TOPIC = '__consumer_offsets'

const METADATA_KEY = 3

/** Another client, made into clusters of the same shape. */
export interface Clusters {
  /** With connections of its own. */
  cluster(): Cluster
}

/**
 * A cluster of its own, with the addresses and log-in of the client. Throws a `CapabilityError` for a
 * client that is not of the version whose insides are known.
 */
export function clusterOf(client: KafkajsClient | Clusters): Cluster {
  return 'cluster' in client ? client.cluster() : kafkajsClusterOf(client)
}

function kafkajsClusterOf(client: KafkajsClient): Cluster {
  const made = Object.getOwnPropertySymbols(client)
    .filter(({ description }) => description === 'private:Kafka:createCluster')
    .map((symbol) => (client as unknown as Record<symbol, unknown>)[symbol])
  const [create] = made
  if (typeof create !== 'function') throw notKnown()
  const cluster = (create as (options: object) => KafkajsCluster)({ allowAutoTopicCreation: false })
  if (typeof cluster.brokerPool?.createBroker !== 'function') throw notKnown()
  cluster.targetTopics.add(SOME_TOPIC)
  const { brokerPool } = cluster
  const createBroker = brokerPool.createBroker.bind(brokerPool)
  brokerPool.createBroker = (options) => tolerant(createBroker(options))
  return cluster
}

interface KafkajsCluster extends Cluster {
  readonly brokerPool: BrokerPool & { createBroker(options: unknown): KafkajsNode }
}

function notKnown(): CapabilityError {
  return new CapabilityError(
    'the option client is not a Kafka object of kafkajs 2.2.4: install that version, or give brokers instead of client',
  )
}

/**
 * kafkajs throws an answer away when one partition of it has an error, be it that a replica of it is
 * down. Who asks here looks at each topic itself.
 */
function tolerant(node: KafkajsNode): KafkajsNode {
  const metadata = node.metadata.bind(node)
  node.metadata = (topics) => {
    const strict = node.lookupRequest
    node.lookupRequest = lenient(strict)
    try {
      // It looks the request up before it first waits.
      return metadata(topics)
    } finally {
      node.lookupRequest = strict
    }
  }
  return node
}

function lenient(lookup: Lookup): Lookup {
  return (apiKey, definition) => {
    const make = lookup(apiKey, definition)
    if (apiKey !== METADATA_KEY) return make
    return (given) => {
      const { request, response } = make(given)
      return { request, response: { decode: response.decode, parse: async (data) => data } }
    }
  }
}
