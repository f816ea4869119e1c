import type { ConnectionOptions } from '@platformatic/kafka'

import type { Random } from '../../src/contract/clock.ts'
import type { AddressedMetadata, NodeAddress } from './cluster-requests.ts'
import { SOME_TOPIC, type Cluster, type Clusters } from './cluster.ts'
import { PlatformaticConnection } from './platformatic-connection.ts'
import { PlatformaticNode } from './platformatic-node.ts'
import type { Platformatic } from './platformatic-package.ts'
import { ConnectionTrouble } from './platformatic-trouble.ts'

/** What clusters are made with. */
export interface PlatformaticSettings {
  readonly library: Platformatic
  readonly clientId: string
  /** `host:port` of some nodes. */
  readonly addresses: readonly string[]
  readonly options: ConnectionOptions
  readonly random: Random
}

/** Makes clusters, each with connections of its own. */
export class PlatformaticClusters implements Clusters {
  readonly #settings: PlatformaticSettings

  constructor(settings: PlatformaticSettings) {
    this.#settings = settings
  }

  cluster(): Cluster {
    return new PlatformaticCluster(this.#settings)
  }
}

/** Nodes that are known, and how they are reached; a cluster of kafkajs looks the same. */
class PlatformaticCluster implements Cluster {
  readonly targetTopics: Set<string> = new Set([SOME_TOPIC])
  readonly brokerPool: {
    brokers: Readonly<Record<string, PlatformaticNode>>
    seedBroker?: PlatformaticNode
    metadata: AddressedMetadata | null
    /** Replaced by one that rejects when nothing is to be connected any more. */
    connectionPoolBuilder: { build(): Promise<unknown> }
    findConnectedBroker(): Promise<PlatformaticNode>
  }
  readonly #settings: PlatformaticSettings
  readonly #builds = { build: (): Promise<unknown> => Promise.resolve() }
  /** Where the nodes of `brokers` are. */
  readonly #places = new Map<number, string>()
  #isOver = false

  constructor(settings: PlatformaticSettings) {
    this.#settings = settings
    this.brokerPool = {
      brokers: {},
      metadata: null,
      connectionPoolBuilder: this.#builds,
      findConnectedBroker: () => this.#anyNode(),
    }
  }

  /** Reaches some node. */
  async connect(): Promise<void> {
    this.#isOver = false
    await this.#anyNode()
  }

  async disconnect(): Promise<void> {
    this.#isOver = true
    const { brokers, seedBroker } = this.brokerPool
    const nodes = [seedBroker, ...Object.values(brokers)]
    await Promise.all(nodes.map(async (node) => node?.close()))
  }

  async refreshMetadata(): Promise<void> {
    const node = await this.#anyNode()
    const metadata = await node.metadata([...this.targetTopics])
    this.brokerPool.metadata = metadata
    this.#learn(metadata.brokers)
  }

  async findBroker({ nodeId }: { readonly nodeId: number | string }): Promise<PlatformaticNode> {
    const node = this.brokerPool.brokers[nodeId]
    if (node === undefined) throw trouble(`there is no node ${nodeId}`)
    await node.open()
    return node
  }

  findControllerBroker(): Promise<PlatformaticNode> {
    const nodeId = this.brokerPool.metadata?.controllerId ?? -1
    if (nodeId < 0) return Promise.reject(trouble('the cluster has no controller'))
    return this.findBroker({ nodeId })
  }

  /** One that is connected, else the first that can be, those given as addresses last. */
  async #anyNode(): Promise<PlatformaticNode> {
    const { brokers, seedBroker } = this.brokerPool
    const known = this.#shuffled(Object.values(brokers))
    const connected = [...known, seedBroker].find((node) => node?.isConnected === true)
    if (connected !== undefined) return connected
    let last: unknown = trouble('there are no addresses')
    for (const node of known) {
      try {
        await node.open()
        return node
      } catch (error) {
        last = error
      }
    }
    for (const address of this.#shuffled(this.#settings.addresses)) {
      try {
        return await this.#seed(address)
      } catch (error) {
        last = error
      }
    }
    throw last
  }

  async #seed(address: string): Promise<PlatformaticNode> {
    const colon = address.lastIndexOf(':')
    const host = address.slice(0, colon).replace(/^\[|\]$/g, '')
    const node = this.#node({ nodeId: null, host, port: Number(address.slice(colon + 1)) })
    // Whoever cuts the cluster off has to find it.
    void this.brokerPool.seedBroker?.close()
    this.brokerPool.seedBroker = node
    await node.open()
    return node
  }

  #learn(addresses: readonly NodeAddress[]): void {
    const before = this.brokerPool.brokers
    const now: Record<string, PlatformaticNode> = {}
    for (const address of addresses) {
      const { nodeId } = address
      const place = `${address.host}:${address.port}`
      const known = before[nodeId]
      now[nodeId] =
        known !== undefined && this.#places.get(nodeId) === place ? known : this.#node(address)
      this.#places.set(nodeId, place)
    }
    this.brokerPool.brokers = now
    for (const [nodeId, node] of Object.entries(before)) {
      if (now[nodeId] !== node) void node.close()
    }
  }

  #node({ nodeId, host, port }: Omit<NodeAddress, 'nodeId'> & { readonly nodeId: number | null }) {
    const { library, clientId, options } = this.#settings
    const isOver = (): boolean => {
      return this.#isOver || this.brokerPool.connectionPoolBuilder !== this.#builds
    }
    const connect = (): PlatformaticConnection =>
      new PlatformaticConnection({ library, clientId, host, port, options, isOver })
    return new PlatformaticNode(nodeId, connect)
  }

  #shuffled<T>(list: readonly T[]): T[] {
    const { random } = this.#settings
    const keyed = list.map((one) => [random.next(), one] as const)
    return keyed.sort(([one], [other]) => one - other).map(([, one]) => one)
  }
}

function trouble(text: string): ConnectionTrouble {
  return new ConnectionTrouble('ConnectionTrouble', text, undefined)
}
