import { engine, joinSubnet, removeContainer, removeNetwork, type Subnet } from './containers.ts'
import { until } from './handshake.ts'
import { KafkaNode, type KafkaAddress } from './kafka-node.ts'
import { leadersOf, partitionsOf } from './kafka-topics.ts'

const WHOLE_TIMEOUT_MS = 120_000

/** How to find a cluster that somebody started; plain data, so that it can go to another process. */
export interface ClusterAddress {
  readonly nodes: readonly KafkaAddress[]
  readonly network: Subnet
}

/** Brokers that know each other, on a network of their own. */
export class KafkaCluster {
  readonly nodes: readonly KafkaNode[]
  readonly #network: Subnet

  constructor({ nodes, network }: ClusterAddress) {
    this.nodes = nodes.map((address) => new KafkaNode(address))
    this.#network = network
  }

  get address(): ClusterAddress {
    return { nodes: this.nodes.map(({ address }) => address), network: this.#network }
  }

  /** `host:port` of each, with nothing in between. */
  get brokers(): readonly string[] {
    return this.nodes.map(({ broker }) => broker)
  }

  /** The broker with this id, from 1. */
  node(id: number): KafkaNode {
    const found = this.nodes.find((node) => node.id === id)
    if (found === undefined) throw new Error(`there is no broker ${id}`)
    return found
  }

  /** The broker that leads a partition at present. */
  async leaderOf(topic: string, partition: number): Promise<KafkaNode> {
    const leaders = await leadersOf(this.brokers, topic)
    const id = leaders.get(partition)
    if (id === undefined || id < 0) throw new Error(`${topic}/${partition} has no leader`)
    return this.node(id)
  }

  /** The broker that leads the controllers at present. */
  async controller(): Promise<KafkaNode> {
    return this.node(await Promise.any(this.nodes.map((node) => node.controller())))
  }

  /** Until every broker counts all of them among those that are up. */
  untilAllUp(): Promise<void> {
    return until('every broker knows all of them', () => this.#isComplete(), WHOLE_TIMEOUT_MS)
  }

  /** Until every replica of every partition of these topics is in sync. */
  untilInSync(...topics: readonly string[]): Promise<void> {
    return until(
      `all replicas of ${topics.join(', ')} in sync`,
      async () => (await Promise.all(topics.map((topic) => this.#isInSync(topic)))).every(Boolean),
      WHOLE_TIMEOUT_MS,
    )
  }

  /** Cuts a broker off from the others, while clients still reach it; returns how that is healed. */
  async isolate(node: KafkaNode): Promise<() => Promise<void>> {
    const network = (await engine()).container.dockerode.getNetwork(this.#network.name)
    const Container = node.containerId
    await network.disconnect({ Container, Force: true })
    let isCutOff = true
    return async () => {
      if (!isCutOff) return
      isCutOff = false
      await joinSubnet(this.#network, Container, node.address)
    }
  }

  /** Ends and removes everything. Idempotent. */
  async remove(): Promise<void> {
    await Promise.all(this.nodes.map(({ containerId }) => removeContainer(containerId)))
    await removeNetwork(this.#network.name)
  }

  async #isComplete(): Promise<boolean> {
    const known = await Promise.all(
      this.nodes.map((node) => node.company().catch((): readonly number[] => [])),
    )
    return known.every((company) => company.length === this.nodes.length)
  }

  async #isInSync(topic: string): Promise<boolean> {
    const partitions = await partitionsOf(this.brokers, topic).catch(() => null)
    return partitions?.every(({ replicas, isr }) => replicas.length === isr.length) ?? false
  }
}
