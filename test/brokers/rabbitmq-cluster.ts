import { engine, removeContainer, removeNetwork } from './containers.ts'
import { until } from './handshake.ts'
import type { QueueFacts } from './management.ts'
import type { RabbitmqNode } from './rabbitmq-node.ts'

const QUORUM_TIMEOUT_MS = 120_000

/** Nodes that know each other, on a network of their own beside the one clients use. */
export class RabbitmqCluster {
  readonly nodes: readonly RabbitmqNode[]
  readonly #network: string

  constructor(nodes: readonly RabbitmqNode[], network: string) {
    this.nodes = nodes
    this.#network = network
  }

  /** The node that leads a quorum queue at present. */
  async leaderOf(vhost: string, queue: string): Promise<RabbitmqNode> {
    const { leader } = await this.#ask(vhost, queue)
    const found = this.nodes.find(({ address }) => address.name === leader)
    if (found === undefined) throw new Error(`queue ${queue} has no leader but ${leader}`)
    return found
  }

  /** Until every node takes part in the queue again. */
  async untilWhole(vhost: string, queue: string): Promise<void> {
    await until(
      `all of ${queue} online`,
      async () => {
        const facts = await this.#ask(vhost, queue).catch(() => null)
        return facts?.online?.length === this.nodes.length
      },
      QUORUM_TIMEOUT_MS,
    )
  }

  /** Cuts a node off from the others, while clients still reach it; returns how that is healed. */
  async isolate(node: RabbitmqNode): Promise<() => Promise<void>> {
    const network = (await engine()).container.dockerode.getNetwork(this.#network)
    const Container = node.address.containerId
    const host = node.address.name.replace(/^.*@/, '')
    await network.disconnect({ Container, Force: true })
    let isCutOff = true
    return async () => {
      if (!isCutOff) return
      isCutOff = false
      await network.connect({ Container, EndpointConfig: { Aliases: [host] } })
    }
  }

  /** Ends and removes everything. Idempotent. */
  async remove(): Promise<void> {
    await Promise.all(this.nodes.map(({ address }) => removeContainer(address.containerId)))
    await removeNetwork(this.#network)
  }

  /** From whichever node answers. */
  async #ask(vhost: string, queue: string): Promise<QueueFacts> {
    return Promise.any(this.nodes.map(({ management }) => management.queue(vhost, queue)))
  }
}
