import { connect, type Channel, type ChannelModel } from 'amqplib'

import { rabbitmq } from '../../../adapters/rabbitmq/broker.ts'
import type { RabbitmqOptions } from '../../../adapters/rabbitmq/options.ts'
import type {
  Broker,
  BrokerContext,
  BrokerState,
  SendOutcome,
} from '../../../src/contract/broker.ts'
import type { Capabilities } from '../../../src/contract/capabilities.ts'
import { systemClock, systemRandom, type Clock } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import { NO_HEADERS, type Destination, type Envelope } from '../../../src/contract/message.ts'
import type { TopicTopology, Topology } from '../../../src/contract/topology.ts'
import type { Management } from '../../brokers/management.ts'
import type { RabbitmqNode, Vhost } from '../../brokers/rabbitmq-node.ts'
import { eventually, within } from '../../conformance/wait.ts'

const LIMIT_MS = 30_000

/** A broker that is open, and what it told. */
export interface OpenBroker {
  readonly broker: Broker
  readonly capabilities: Capabilities
  readonly events: HoldfastEvent[]
  readonly states: BrokerState[]
}

/** A virtual host of its own, brokers that are open on it, and an operator's connection. */
export class BrokerStage {
  readonly node: RabbitmqNode
  readonly vhost: Vhost
  readonly #brokers: Broker[] = []
  #operator: ChannelModel | null = null

  private constructor(node: RabbitmqNode, vhost: Vhost) {
    this.node = node
    this.vhost = vhost
  }

  static async on(node: RabbitmqNode): Promise<BrokerStage> {
    return new BrokerStage(node, await node.vhost())
  }

  get management(): Management {
    return this.node.management
  }

  /** What the option `managementUrl` has to be. */
  get managementUrl(): string {
    return `http://127.0.0.1:${this.node.address.managementPort}`
  }

  /** A broker that is not open yet. */
  broker(options: Partial<RabbitmqOptions> = {}): Broker {
    const broker = rabbitmq({ url: this.vhost.url, ...options })
    this.#brokers.push(broker)
    return broker
  }

  async open(
    options: Partial<RabbitmqOptions> = {},
    clock: Clock = systemClock,
  ): Promise<OpenBroker> {
    return openBroker(this.broker(options), clock)
  }

  /** A fresh channel of an operator; what kills it kills nothing else. */
  async channel(): Promise<Channel> {
    this.#operator ??= await connect(this.vhost.url)
    this.#operator.on('error', () => undefined)
    const channel = await this.#operator.createChannel()
    channel.on('error', () => undefined)
    return channel
  }

  /** Names of all queues. */
  async queues(): Promise<readonly string[]> {
    return (await this.management.queues(this.vhost.name)).map(({ name }) => name).sort()
  }

  /** Arguments of a queue. */
  async arguments(queue: string): Promise<Readonly<Record<string, unknown>>> {
    return (await this.management.queue(this.vhost.name, queue)).arguments
  }

  /** "routing key → queue" of everything bound to an exchange. */
  async bindings(exchange: string): Promise<readonly string[]> {
    const path = `exchanges/${encodeURIComponent(this.vhost.name)}/${exchange}/bindings/source`
    const found = await this.management.get<{ destination: string; routing_key: string }[]>(path)
    return found.map(({ destination, routing_key }) => `${routing_key} → ${destination}`).sort()
  }

  async close(): Promise<void> {
    const deadline = systemClock.now() + 10_000
    await Promise.all(this.#brokers.map((broker) => broker.close(deadline)))
    await this.#operator?.close().catch(() => undefined)
    await this.vhost.remove()
  }
}

/** Opens a broker with a context of its own, and listens. */
export async function openBroker(broker: Broker, clock: Clock = systemClock): Promise<OpenBroker> {
  const events: HoldfastEvent[] = []
  const states: BrokerState[] = []
  broker.onState((state) => void states.push(state))
  const opening = broker.open(contextOf(events, clock))
  const capabilities = await within(systemClock, LIMIT_MS, 'open()', opening)
  return { broker, capabilities, events, states }
}

/** A context that keeps what is emitted. */
export function contextOf(events: HoldfastEvent[], clock: Clock = systemClock): BrokerContext {
  const emit: Emit = Object.assign((event: HoldfastEvent) => void events.push(event), {
    wants: () => true,
  })
  const { signal } = new AbortController()
  return { clock, random: systemRandom, crash: noCrashes, emit, signal }
}

/** Time in which whatever happens every minute happens five times a second. */
export const hastyClock: Clock = Object.freeze({
  ...systemClock,
  after: (ms: number, task: () => void) =>
    systemClock.after(ms > 50_000 && ms < 70_000 ? 200 : ms, task),
})

/** A topic's topology with what a test does not care about filled in. */
export function topicOf(name: string, rest: Partial<TopicTopology> = {}): TopicTopology {
  return { name, groups: ['a'], partitions: null, ordering: 'none', retryLevelsMs: [], ...rest }
}

/** One topic as a whole topology. */
export function topologyOf(name: string, rest: Partial<TopicTopology> = {}): Topology {
  return { topics: [topicOf(name, rest)] }
}

/** An envelope to a topic or anywhere else. */
export function envelopeTo(to: Destination | string, body: string, key?: string): Envelope {
  return {
    id: `${body}-id`,
    type: 'test',
    producer: 'test',
    to: typeof to === 'string' ? { kind: 'topic', topic: to } : to,
    key: key === undefined ? null : Buffer.from(key),
    orderKey: key ?? null,
    body: Buffer.from(body),
    headers: NO_HEADERS,
    contentType: 'text/plain',
    timeMs: null,
    deliverAtMs: null,
  }
}

/** Sends one envelope and waits for its outcome. */
export async function sent(broker: Broker, envelope: Envelope): Promise<SendOutcome> {
  const sender = broker.sender('publish')
  const outcome = new Promise<SendOutcome>((resolve) => {
    sender.send([envelope], systemClock.now() + 10_000, (_from, _to, one) => resolve(one))
  })
  try {
    return await within(systemClock, LIMIT_MS, 'the outcome', outcome)
  } finally {
    await sender.close(systemClock.now() + 5_000)
  }
}

/** Waits for a condition as the machine's clock goes. */
export function soon(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  return eventually(systemClock, LIMIT_MS, typeof what === 'string' ? () => what : what, condition)
}
