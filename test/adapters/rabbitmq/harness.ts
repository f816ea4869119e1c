import { fileURLToPath } from 'node:url'

import { rabbitmq, type RabbitmqOptions } from '../../../adapters/rabbitmq/index.ts'
import { FaultProxy, type Seen } from '../../brokers/proxy/fault-proxy.ts'
import type { RabbitmqNode, Vhost } from '../../brokers/rabbitmq-node.ts'
import type { BrokerFaults, BrokerHarness } from '../../conformance/index.ts'

/** What may differ between two runs of the suite. */
export type Variant = Partial<Omit<RabbitmqOptions, 'url'>>

/** A virtual host of its own, and a proxy before the broker that makes faults. */
export class Rig {
  readonly node: RabbitmqNode
  readonly vhost: Vhost
  readonly proxy: FaultProxy

  private constructor(node: RabbitmqNode, vhost: Vhost, proxy: FaultProxy) {
    this.node = node
    this.vhost = vhost
    this.proxy = proxy
  }

  static async open(node: RabbitmqNode): Promise<Rig> {
    const target = { host: '127.0.0.1', port: node.address.amqpPort }
    const proxy = await FaultProxy.start({ target: () => target })
    return new Rig(node, await node.vhost(), proxy)
  }

  /** Through the proxy. */
  get url(): string {
    return this.node.url(this.vhost.name, this.proxy.port)
  }

  /** A harness of the conformance suite; every connection goes through the proxy. */
  harness(name: string, variant: Variant = {}): BrokerHarness {
    return {
      name,
      connect: () => rabbitmq({ ...variant, url: this.url }),
      patience: 4,
      shortRetryMs: 500,
      faults: this.#faults(),
      secondProcess: {
        module: fileURLToPath(new URL('../../../dist/adapters/rabbitmq/index.js', import.meta.url)),
        name: 'rabbitmq',
        options: { ...variant, url: this.vhost.url },
      },
    }
  }

  async close(): Promise<void> {
    await this.proxy.close()
    await this.vhost.remove()
  }

  #faults(): BrokerFaults {
    return {
      restart: () => this.node.restartApp(),
      stall: (topic) => {
        const rule = this.proxy.rule(publishesTo(topic), { do: 'hold-confirm' })
        return () => rule.heal()
      },
      // A broker stops reading whole connections: that of one topic is that of all.
      neverWrite: async () => {
        const alarm = this.proxy.blockPublishers()
        // Who publishes hears of it within a few rounds: it is this process, at the other end.
        for (let round = 0; round < 10; round++) await new Promise(setImmediate)
        return () => alarm.heal()
      },
      loseConfirm: (topic, count) => {
        this.proxy.rule(publishesTo(topic), { do: 'lose-confirm' }, count)
      },
      loseSource: (topic, group) => {
        this.proxy.reset(({ session }) => session?.queues.some(isQueueOf(topic, group)) ?? false)
      },
      deleteDestination: (topic, group) => this.#deleteQueues(isQueueOf(topic, group)),
    }
  }

  async #deleteQueues(matches: (queue: string) => boolean): Promise<void> {
    const { management } = this.node
    const all = await management.queues(this.vhost.name)
    const doomed = all.map(({ name }) => name).filter(matches)
    await Promise.all(doomed.map((name) => management.deleteQueue(this.vhost.name, name)))
  }
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
