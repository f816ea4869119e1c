import { randomBytes } from 'node:crypto'

import * as amqplib from 'amqplib'

import { Connector } from '../../../adapters/rabbitmq/connector.ts'
import { resolveOptions, type Resolved } from '../../../adapters/rabbitmq/options.ts'
import { RabbitmqSender } from '../../../adapters/rabbitmq/sender.ts'
import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import type { BrokerContext, SendOutcome } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import type { Emit, HoldfastEvent } from '../../../src/contract/events.ts'
import type { Destination, Envelope } from '../../../src/contract/message.ts'
import type { RabbitmqNode, Vhost } from '../../brokers/rabbitmq-node.ts'
import { eventually } from '../../conformance/wait.ts'

/** What a test may ask of a sender. */
export interface SendSetup {
  readonly options?: Partial<Resolved>
  /** Through a proxy, for example. */
  readonly port?: number
}

/** A sender, what it reported by message id, and what it told. */
export interface Sending {
  readonly sender: RabbitmqSender
  readonly reports: Reports
  readonly events: HoldfastEvent[]
  readonly health: string[]
  /** Purposes of the connections that were opened. */
  readonly wires: readonly string[]
}

const group = 'a'
const LIMIT_MS = 30_000

/** Outcomes by message id; a second report of one is a breach. */
export class Reports {
  readonly outcomes: Map<string, SendOutcome> = new Map()
  readonly breaches: string[] = []
  sent: number = 0

  /** What `send` is given. */
  of(batch: readonly Envelope[]): (from: number, to: number, outcome: SendOutcome) => void {
    this.sent += batch.length
    return (from, to, outcome) => {
      for (let index = from; index < to; index++) {
        const id = batch[index]!.id!
        if (this.outcomes.has(id)) this.breaches.push(`${id} was reported twice`)
        this.outcomes.set(id, outcome)
      }
    }
  }

  /** Ids of those that ended so. */
  ids(status: SendOutcome['status']): string[] {
    return [...this.outcomes].filter(([, one]) => one.status === status).map(([id]) => id)
  }

  /** How they ended, in words: `confirmed`, `refused unroutable`, `unknown timeout`, … with their counts. */
  get summary(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const outcome of this.outcomes.values()) {
      const word = inWords(outcome)
      counts[word] = (counts[word] ?? 0) + 1
    }
    return counts
  }
}

export function inWords(outcome: SendOutcome | undefined): string {
  if (outcome === undefined) return 'open'
  if (outcome.status !== 'confirmed') return `${outcome.status} ${outcome.error.code}`
  return outcome.possiblyDuplicated === true ? 'confirmed, perhaps twice' : 'confirmed'
}

/** A virtual host with topics declared by hand, and senders on it. */
export class SendingStage {
  readonly node: RabbitmqNode
  readonly vhost: Vhost
  readonly topics: TopicTable = new TopicTable(
    { prefix: '', map: new Map() },
    systemClock,
    systemRandom,
  )
  readonly #sendings: Sending[] = []
  #operator: amqplib.ChannelModel | null = null

  private constructor(node: RabbitmqNode, vhost: Vhost) {
    this.node = node
    this.vhost = vhost
  }

  static async on(node: RabbitmqNode): Promise<SendingStage> {
    return new SendingStage(node, await node.vhost())
  }

  /** Runs something on a channel of the operator's that ends with it. */
  async operate<T>(work: (channel: amqplib.ConfirmChannel) => Promise<T>): Promise<T> {
    if (this.#operator === null) {
      const operator = await amqplib.connect(this.node.url(this.vhost.name))
      this.#operator = operator
      operator.on('error', () => undefined)
      operator.on('close', () => void (this.#operator = null))
    }
    const channel = await this.#operator.createConfirmChannel()
    channel.on('error', () => undefined)
    try {
      return await work(channel)
    } finally {
      await channel.close().catch(() => undefined)
    }
  }

  /** A topic with one group; returns its name. */
  async topic(
    setup: { readonly type?: 'quorum' | 'classic'; readonly arguments?: object } = {},
  ): Promise<string> {
    const topic = `t-${randomBytes(4).toString('hex')}`
    await this.operate(async (channel) => {
      await channel.assertExchange(topic, 'topic', { durable: true })
      const { queue } = await channel.assertQueue(`${topic}.${group}`, {
        durable: true,
        arguments: {
          'x-queue-type': setup.type ?? 'quorum',
          'x-overflow': 'reject-publish',
          ...setup.arguments,
        },
      })
      await channel.bindQueue(queue, topic, '#')
    })
    return topic
  }

  queue(topic: string): string {
    return `${topic}.${group}`
  }

  sending(setup: SendSetup = {}): Sending {
    const events: HoldfastEvent[] = []
    const health: string[] = []
    const wires: string[] = []
    const emit: Emit = Object.assign((event: HoldfastEvent) => void events.push(event), {
      wants: () => true,
    })
    const context = contextOf(emit)
    const url = this.node.url(this.vhost.name, setup.port)
    const options: Resolved = { ...resolveOptions({ url }), ...setup.options }
    const real = new Connector(options, context)
    const connector = {
      open: async (purpose: string) => {
        const wire = await real.open(purpose)
        wires.push(purpose)
        return wire
      },
      onOpen: (listener: () => void) => real.onOpen(listener),
    }
    const sender = new RabbitmqSender({
      connector,
      topics: this.topics,
      options,
      context,
      purpose: 'publish',
      health: (state, reason) => void health.push(reason === null ? state : `${state}: ${reason}`),
    })
    const sending = { sender, reports: new Reports(), events, health, wires }
    this.#sendings.push(sending)
    return sending
  }

  /** Hands envelopes over; their reports are collected. */
  send(
    { sender, reports }: Sending,
    batch: readonly Envelope[],
    withinMs: number = LIMIT_MS,
  ): void {
    sender.send(batch, systemClock.now() + withinMs, reports.of(batch))
  }

  /** Until everything that was sent has been reported. */
  async settled({ reports }: Sending, limitMs: number = LIMIT_MS): Promise<void> {
    await this.eventually(
      () =>
        `${reports.outcomes.size} of ${reports.sent} were reported: ${JSON.stringify(reports.summary)}`,
      () => reports.outcomes.size === reports.sent,
      limitMs,
    )
  }

  /** Ids of all messages in a queue, which is empty afterwards. */
  drain(queue: string): Promise<string[]> {
    return this.operate(async (channel) => {
      const ids: string[] = []
      const { messageCount } = await channel.checkQueue(queue)
      if (messageCount === 0) return ids
      await channel.prefetch(1_000)
      await new Promise<void>((resolve) => {
        void channel.consume(queue, (message) => {
          if (message === null) return
          ids.push(String(message.properties.messageId))
          channel.ack(message)
          if (ids.length >= messageCount) resolve()
        })
      })
      return ids
    })
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

  /** Closes what is open; fails when a sender reported anything twice. */
  async end(): Promise<void> {
    await Promise.allSettled(this.#sendings.map(({ sender }) => sender.close(this.deadline(5_000))))
    await this.#operator?.close().catch(() => undefined)
    await this.vhost.remove()
    const breaches = this.#sendings.flatMap(({ reports }) => reports.breaches)
    if (breaches.length > 0) throw new Error(`the sender broke a rule: ${breaches.join('; ')}`)
  }
}

export function contextOf(emit: Emit): BrokerContext {
  const signal = new AbortController().signal
  return { clock: systemClock, random: systemRandom, crash: noCrashes, emit, signal }
}

/** An envelope with nothing special about it. */
export function envelope(topic: string, id: string, more: Partial<Envelope> = {}): Envelope {
  const to: Destination = { kind: 'topic', topic }
  return {
    id,
    type: null,
    producer: null,
    to,
    key: null,
    orderKey: null,
    body: Buffer.from(`body of ${id}`),
    headers: [],
    contentType: null,
    timeMs: null,
    deliverAtMs: null,
    ...more,
  }
}

/** `count` of them, ids from `m-0` on. */
export function envelopes(topic: string, count: number, first = 0): Envelope[] {
  return Array.from({ length: count }, (_, n) => envelope(topic, `m-${first + n}`))
}
