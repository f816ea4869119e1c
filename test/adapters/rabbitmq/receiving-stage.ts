import { randomBytes } from 'node:crypto'

import * as amqplib from 'amqplib'

import type { BalancePace } from '../../../adapters/rabbitmq/balance.ts'
import { Connector } from '../../../adapters/rabbitmq/connector.ts'
import { resolveOptions, type Resolved } from '../../../adapters/rabbitmq/options.ts'
import { RabbitmqReceiver } from '../../../adapters/rabbitmq/receiver.ts'
import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import type { Wire } from '../../../adapters/rabbitmq/wire.ts'
import type { Source, Subscription } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom, type Clock } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import type { TopicTopology } from '../../../src/contract/topology.ts'
import { Listener, type OnReceived } from '../../conformance/broker/listener.ts'
import { eventually } from '../../conformance/wait.ts'
import type { RabbitmqNode, Vhost } from '../../brokers/rabbitmq-node.ts'

/** How a test's queues are declared. */
export interface GroupSetup {
  readonly partitions?: number | null
  readonly singleActive?: boolean
  readonly type?: 'quorum' | 'classic'
  readonly arguments?: Readonly<Record<string, unknown>>
}

/** What a test may ask of a receiver. */
export interface ReceiveSetup {
  readonly ordering?: Subscription['ordering']
  readonly maxHeld?: Partial<Subscription['maxHeld']>
  readonly onReceived?: (received: Parameters<OnReceived>[0], listener: Listener) => void
  /** When sources are asked back. Default: releases what is held of them. */
  readonly onRevoking?: (sources: readonly Source[]) => Promise<void>
  readonly options?: Partial<Resolved>
  readonly clock?: Clock
  /** How fast partitions move. Default: fast. */
  readonly pace?: BalancePace
  /** Through a proxy, for example. */
  readonly port?: number
}

/** A receiver, what it handed over, and what it told. */
export interface Receiving {
  readonly receiver: RabbitmqReceiver
  readonly listener: Listener
  readonly events: HoldfastEvent[]
  readonly health: string[]
  /** How many connections it opened. */
  readonly wires: () => number
  /** Ends its connection without a word. */
  readonly cut: () => void
}

const LIMIT_MS = 30_000

/** Moves a partition within tenths of a second, and the same one again after a second. */
const FAST: BalancePace = { everyMs: [50, 150], handOverMs: 2_000, restMs: 1_000 }
const group = 'a'

/** A virtual host with queues declared by hand, and receivers on them; nothing here is the adapter's own but these. */
export class ReceivingStage {
  readonly node: RabbitmqNode
  readonly vhost: Vhost
  #channel: amqplib.ConfirmChannel
  #operator: amqplib.ChannelModel
  readonly #receivings: Receiving[] = []
  readonly #topics = new TopicTable({ prefix: '', map: new Map() }, systemClock, systemRandom)

  private constructor(
    node: RabbitmqNode,
    vhost: Vhost,
    operator: amqplib.ChannelModel,
    channel: amqplib.ConfirmChannel,
  ) {
    this.node = node
    this.vhost = vhost
    this.#operator = operator
    this.#channel = channel
  }

  /** The operator's channel, on a connection of its own. */
  get channel(): amqplib.ConfirmChannel {
    return this.#channel
  }

  static async on(node: RabbitmqNode): Promise<ReceivingStage> {
    const vhost = await node.vhost()
    const { operator, channel } = await connected(vhost.url)
    return new ReceivingStage(node, vhost, operator, channel)
  }

  /** As an operator would: closes every connection of the virtual host, also the test's own, which comes back. */
  async closeConnections(): Promise<void> {
    const { name, url } = this.vhost
    const over = new Promise((resolve) => this.#operator.once('close', resolve))
    await this.node.ctl('close_all_connections', '--vhost', name, 'closed by a test')
    await over
    const { operator, channel } = await connected(url)
    this.#operator = operator
    this.#channel = channel
  }

  /** Declares exchange, queues and the dead-letter queue of a new topic; returns its name. */
  async topic(setup: GroupSetup = {}): Promise<string> {
    const topic = `t-${randomBytes(4).toString('hex')}`
    await this.declare(topic, setup)
    return topic
  }

  async declare(topic: string, setup: GroupSetup = {}): Promise<void> {
    const { partitions = null, singleActive = false, type = 'quorum' } = setup
    const ordering = singleActive ? 'key' : 'none'
    const plan = this.#topics.declare({
      ...{ name: topic, groups: [group], retryLevelsMs: [] },
      ...{ partitions, ordering },
    } satisfies TopicTopology)
    await this.channel.assertExchange(plan.exchange, 'topic', { durable: true })
    const dead = plan.dead(group)
    await this.channel.assertQueue(dead, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    for (const [index, queue] of plan.queues(group).entries()) {
      await this.channel.assertQueue(queue, {
        durable: true,
        arguments: {
          'x-queue-type': type,
          'x-dead-letter-exchange': '',
          'x-dead-letter-routing-key': dead,
          ...(singleActive && { 'x-single-active-consumer': true }),
          ...setup.arguments,
        },
      })
      await this.channel.bindQueue(queue, plan.exchange, partitions === null ? '#' : String(index))
    }
  }

  queues(topic: string): readonly string[] {
    return this.#topics.of(topic).queues(group)
  }

  queue(topic: string): string {
    return this.queues(topic)[0]!
  }

  dead(topic: string): string {
    return this.#topics.of(topic).dead(group)
  }

  /** Publishes texts as any other program would: with an id each. Resolves when all are confirmed. */
  async publish(
    topic: string,
    bodies: readonly string[],
    given: { readonly key?: (body: string) => string; readonly headers?: object } = {},
  ): Promise<void> {
    const plan = this.#topics.of(topic)
    for (const body of bodies) {
      const key = given.key?.(body)
      this.channel.publish(
        plan.exchange,
        plan.routingKey(key === undefined ? null : Buffer.from(key)),
        Buffer.from(body),
        {
          persistent: true,
          messageId: body,
          headers: {
            ...given.headers,
            ...(key !== undefined && { cloudEvents_partitionkey: key }),
          },
        },
      )
    }
    await this.channel.waitForConfirms()
  }

  /** Messages that are ready: neither handed out nor finished. */
  async ready(queue: string): Promise<number> {
    return (await this.channel.checkQueue(queue)).messageCount
  }

  /** Who consumes what, as the broker sees it. */
  async consumers(): Promise<
    readonly { readonly queue: string; readonly channel: string; readonly isActive: boolean }[]
  > {
    const columns = ['queue_name', 'channel_pid', 'active']
    const text = await this.node.ctl('list_consumers', '-p', this.vhost.name, ...columns)
    const rows = text.split('\n').map((line) => line.split('\t'))
    return rows
      .filter(([, , active]) => active === 'true' || active === 'false')
      .map(([queue, channel, active]) => ({
        queue: queue!,
        channel: channel!,
        isActive: active === 'true',
      }))
  }

  /** A receiver that has begun, whether it is consuming yet or not. */
  begin(
    topic: string | readonly string[],
    setup: ReceiveSetup = {},
  ): Receiving & { opened: Promise<void> } {
    const { clock = systemClock, port, maxHeld, ordering = 'none', pace = FAST } = setup
    const events: HoldfastEvent[] = []
    const health: string[] = []
    const emit: Emit = Object.assign((event: HoldfastEvent) => void events.push(event), {
      wants: () => true,
    })
    const signal = new AbortController().signal
    const context = { clock, emit, signal, random: systemRandom, crash: noCrashes }
    const url = this.node.url(this.vhost.name, port)
    const options: Resolved = { ...resolveOptions({ url }), ...setup.options }
    const connector = new Counted(new Connector(options, context))
    const listener: Listener = new Listener(clock, (received) =>
      setup.onReceived?.(received, listener),
    )
    const topics = typeof topic === 'string' ? [topic] : topic
    const receiver = new RabbitmqReceiver({
      connector,
      options,
      context,
      pace,
      topics: this.#topics,
      subscription: {
        ...{ topics, group, ordering, from: 'now' },
        maxHeld: { messages: 100, bytes: 64_000_000, ...maxHeld },
      },
      sink: listener,
      health: (state, reason) => void health.push(reason === null ? state : `${state}: ${reason}`),
    })
    listener.attach(receiver)
    if (setup.onRevoking !== undefined) listener.revoking = setup.onRevoking
    const receiving = {
      receiver,
      listener,
      events,
      health,
      wires: () => connector.opened,
      cut: () => connector.wire?.destroy(),
    }
    this.#receivings.push(receiving)
    return { ...receiving, opened: receiver.opened() }
  }

  /** A receiver that is consuming. */
  async receive(topic: string | readonly string[], setup: ReceiveSetup = {}): Promise<Receiving> {
    const { opened, ...receiving } = this.begin(topic, setup)
    await opened
    return receiving
  }

  /** Another program's consumer on every queue of the topic; what comes to it is acknowledged. */
  async foreign(topic: string): Promise<{ readonly got: string[]; stop(): Promise<void> }> {
    const model = await amqplib.connect(this.vhost.url)
    const channel = await model.createChannel()
    const got: string[] = []
    for (const queue of this.queues(topic)) {
      await channel.consume(queue, (message) => {
        if (message === null) return
        got.push(message.content.toString())
        channel.ack(message)
      })
    }
    return { got, stop: () => model.close() }
  }

  /** Takes rights from everybody; returns how they come back. */
  async forbid(rights: { configure?: string; read?: string }): Promise<() => Promise<void>> {
    const path = `permissions/${encodeURIComponent(this.vhost.name)}/guest`
    const all = { configure: '.*', write: '.*', read: '.*' }
    await this.node.management.put(path, { ...all, ...rights })
    return () => this.node.management.put(path, all)
  }

  /** As a crash would: its connection ends without a word, and it never comes back. */
  async cutOff({ receiver, cut }: Receiving): Promise<void> {
    cut()
    await receiver.close(this.deadline(1_000)).catch(() => undefined)
  }

  deadline(ms: number = LIMIT_MS): number {
    return systemClock.now() + ms
  }

  eventually(
    what: () => string,
    condition: () => boolean | Promise<boolean>,
    limitMs: number = LIMIT_MS,
  ): Promise<void> {
    return eventually(systemClock, limitMs, what, condition)
  }

  /** Closes what is open; fails when a receiver broke a rule of its interface on the way. */
  async end(): Promise<void> {
    await Promise.allSettled(
      this.#receivings.map(({ receiver }) => receiver.close(this.deadline(5_000))),
    )
    await this.#operator.close().catch(() => undefined)
    await this.vhost.remove()
    const breaches = this.#receivings.flatMap(({ listener }) => listener.breaches)
    if (breaches.length > 0) throw new Error(`the receiver broke a rule: ${breaches.join('; ')}`)
  }
}

/** A connector that knows the connection it opened last. */
class Counted {
  readonly #connector: Connector
  opened = 0
  wire: Wire | null = null

  constructor(connector: Connector) {
    this.#connector = connector
  }

  async open(purpose: string): Promise<Wire> {
    this.wire = await this.#connector.open(purpose)
    this.opened++
    return this.wire
  }

  onOpen(listener: () => void): () => void {
    return this.#connector.onOpen(listener)
  }
}

async function connected(
  url: string,
): Promise<{ operator: amqplib.ChannelModel; channel: amqplib.ConfirmChannel }> {
  const operator = await amqplib.connect(url)
  operator.on('error', () => undefined)
  const channel = await operator.createConfirmChannel()
  channel.on('error', () => undefined)
  return { operator, channel }
}

/** `count` texts. */
export function texts(count: number, first = 0): readonly string[] {
  return Array.from({ length: count }, (_, n) => `m-${first + n}`)
}
