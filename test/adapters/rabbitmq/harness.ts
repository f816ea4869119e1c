import { fileURLToPath } from 'node:url'

import { rabbitmq, type RabbitmqOptions } from '../../../adapters/rabbitmq/index.ts'
import { FaultProxy, type Action, type Fault, type Seen } from '../../brokers/proxy/fault-proxy.ts'
import type { RabbitmqNode, Vhost } from '../../brokers/rabbitmq-node.ts'
import type { BrokerFaults, BrokerHarness } from '../../conformance/index.ts'

/** What may differ between two runs of the suite. */
export type Variant = Partial<Omit<RabbitmqOptions, 'url'>>

/** A virtual host of its own on one node or a cluster, and a proxy before each node that makes faults. */
export class Rig {
  readonly nodes: readonly RabbitmqNode[]
  readonly vhost: Vhost
  readonly proxies: readonly FaultProxy[]

  private constructor(
    nodes: readonly RabbitmqNode[],
    vhost: Vhost,
    proxies: readonly FaultProxy[],
  ) {
    this.nodes = nodes
    this.vhost = vhost
    this.proxies = proxies
  }

  static async open(...nodes: readonly [RabbitmqNode, ...RabbitmqNode[]]): Promise<Rig> {
    const proxies = nodes.map(({ address }) => {
      const target = { host: '127.0.0.1', port: address.amqpPort }
      return FaultProxy.start({ target: () => target })
    })
    return new Rig(nodes, await nodes[0].vhost(), await Promise.all(proxies))
  }

  /** One per node, through its proxy. */
  get urls(): readonly string[] {
    return this.nodes.map((node, n) => node.url(this.vhost.name, this.proxies[n]?.port))
  }

  /** A harness of the conformance suite; every connection goes through the proxy. */
  harness(name: string, variant: Variant = {}): BrokerHarness {
    return {
      name,
      connect: () => rabbitmq({ ...variant, url: this.urls }),
      patience: 4,
      shortRetryMs: 500,
      asksBack: true,
      faults: this.#faults(),
      secondProcess: {
        module: fileURLToPath(new URL('../../../dist/adapters/rabbitmq/index.js', import.meta.url)),
        name: 'rabbitmq',
        options: { ...variant, url: this.nodes.map((node) => node.url(this.vhost.name)) },
      },
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.proxies.map((proxy) => proxy.close()))
    await this.vhost.remove()
  }

  #faults(): BrokerFaults {
    return {
      restart: () => this.#restart(),
      stall: (topic) => {
        const rules = this.#rules(publishesTo(topic), { do: 'hold-confirm' }, Infinity)
        return () => heal(rules)
      },
      // A broker stops reading whole connections: that of one topic is that of all.
      neverWrite: async () => {
        const alarms = this.proxies.map((proxy) => proxy.blockPublishers())
        // Who publishes hears of it within a few rounds: it is this process, at the other end.
        for (let round = 0; round < 10; round++) await new Promise(setImmediate)
        return () => heal(alarms)
      },
      // A connection is to one node: where there are several, each may lose that many.
      loseConfirm: (topic, count) => {
        this.#rules(publishesTo(topic), { do: 'lose-confirm' }, count)
      },
      loseSource: (topic, group) => {
        const isQueue = isQueueOf(topic, group)
        for (const proxy of this.proxies) {
          proxy.reset(({ session }) => session?.queues.some(isQueue) ?? false)
        }
      },
      deleteDestination: (topic, group) => this.#deleteQueues(isQueueOf(topic, group)),
    }
  }

  #rules(match: (seen: Seen) => boolean, action: Action, count: number): readonly Fault[] {
    return this.proxies.map((proxy) => proxy.rule(match, action, count))
  }

  /** All of it, since a cluster of which one node restarts never went away. */
  async #restart(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.ctl('stop_app')))
    await Promise.all(this.nodes.map((node) => node.ctl('start_app')))
    await Promise.all(this.nodes.map((node) => node.untilUp()))
  }

  async #deleteQueues(matches: (queue: string) => boolean): Promise<void> {
    const { management } = this.nodes[0]!
    const all = await management.queues(this.vhost.name)
    const doomed = all.map(({ name }) => name).filter(matches)
    await Promise.all(doomed.map((name) => management.deleteQueue(this.vhost.name, name)))
  }
}

function heal(faults: readonly Fault[]): void {
  for (const fault of faults) fault.heal()
}

/** A topic's exchange has its name. */
function publishesTo(topic: string): (seen: Seen) => boolean {
  return ({ method, exchange }) => method === 'basic.publish' && exchange === topic
}

/** `topic.group`, or one of its partitions; not its retry levels, nor its dead letters. */
function isQueueOf(topic: string, group: string): (queue: string) => boolean {
  const name = `${topic}.${group}`
  return (queue) =>
    queue === name || (queue.startsWith(`${name}.`) && /^\d+$/.test(queue.slice(name.length + 1)))
}
