import { connect, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib'
import {
  ReliablePublisher,
  topic,
  type HoldfastEvent,
  type PublisherOptions,
  type Topic,
} from 'holdfast'
import { rabbitmq, type RabbitmqOptions } from 'holdfast/rabbitmq'

import { systemClock } from '../../../../src/contract/clock.ts'
import { FaultProxy } from '../../../brokers/proxy/fault-proxy.ts'
import type { RabbitmqNode, Vhost } from '../../../brokers/rabbitmq-node.ts'
import { eventually } from '../../../conformance/wait.ts'
import { Book, type Wanted } from './book.ts'

/** What travels: its name in the history, and whose order it belongs to. */
export interface Parcel {
  readonly id: string
  readonly key: string
  readonly pad?: string
}

export const NAME = 'parcels'
export const GROUP = 'g'
/** No order is asked for. */
export const Parcels: Topic<Parcel> = topic<Parcel>(NAME)
/** Parcels of one key keep their order. */
export const KeyedParcels: Topic<Parcel> = topic<Parcel>(NAME, { key: ({ key }) => key })
export const QUEUE: string = `${NAME}.${GROUP}`
export const DEAD: string = `${QUEUE}.dead`

const LIMIT_MS = 60_000
/** A queue that gives out nothing for so long, and says that it is empty, is. */
const QUIET_MS = 400

/** What ends with the stage, the last first. */
type CleanUp = () => unknown

/** A virtual host, a proxy before it, publishers, and the history of what became of everything. */
export class FaultStage {
  readonly node: RabbitmqNode
  readonly vhost: Vhost
  readonly proxy: FaultProxy
  readonly book: Book = new Book()
  readonly events: HoldfastEvent[] = []
  readonly #cleanUps: CleanUp[] = []

  private constructor(node: RabbitmqNode, vhost: Vhost, proxy: FaultProxy) {
    this.node = node
    this.vhost = vhost
    this.proxy = proxy
    this.defer(() => vhost.remove())
    this.defer(() => proxy.close())
  }

  /** `parcels` is declared on it, with its group. */
  static async on(node: RabbitmqNode, options: Partial<RabbitmqOptions> = {}): Promise<FaultStage> {
    const target = { host: '127.0.0.1', port: node.address.amqpPort }
    const proxy = await FaultProxy.start({ target: () => target })
    const stage = new FaultStage(node, await node.vhost(), proxy)
    const publisher = stage.publisher({ url: stage.vhost.url, ...options })
    // With the first message of a topic everything it needs is declared.
    await publisher.publish(Parcels, { id: 'first', key: '' })
    await publisher.close()
    const { channel } = await stage.plain()
    await channel.purgeQueue(QUEUE)
    return stage
  }

  /** Through the proxy. */
  get url(): string {
    return this.node.url(this.vhost.name, this.proxy.port)
  }

  defer(cleanUp: CleanUp): void {
    this.#cleanUps.push(cleanUp)
  }

  /** Its events are collected; it is closed with the stage. */
  publisher(
    options: Partial<RabbitmqOptions> = {},
    given: Partial<PublisherOptions<never>> = {},
  ): ReliablePublisher<never> {
    const publisher = new ReliablePublisher<never>({
      broker: rabbitmq({ url: this.url, ...options }),
      topics: { [NAME]: { groups: [GROUP], retryLevelsMs: [1_000] } },
      deadlineMs: 120_000,
      logging: 'silent',
      ...given,
    })
    publisher.on((event) => this.#keep(event))
    this.defer(() => publisher.close())
    return publisher
  }

  /** A plain client, without the proxy unless said otherwise. */
  async plain(
    url: string = this.vhost.url,
  ): Promise<{ connection: ChannelModel; channel: ConfirmChannel }> {
    const connection = await connect(url)
    connection.on('error', () => undefined)
    this.defer(() => connection.close().catch(() => undefined))
    const channel = await connection.createConfirmChannel()
    channel.on('error', () => undefined)
    return { connection, channel }
  }

  /** Resets all connections, again and again, while `work` lasts. */
  async resetting<T>(everyMs: number, work: () => Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      if (this.proxy.reset() > 0) this.book.fault('reset')
    }, everyMs)
    try {
      return await work()
    } finally {
      clearInterval(timer)
    }
  }

  soon(
    what: () => string,
    condition: () => boolean | Promise<boolean>,
    limitMs: number = LIMIT_MS,
  ): Promise<void> {
    return eventually(systemClock, limitMs, what, condition)
  }

  /** How often an event of this kind was told. */
  told(matches: (event: HoldfastEvent) => boolean): number {
    return this.events.filter(matches).length
  }

  /** Takes what is left in the queue and the dead letters, then judges. */
  async judge(expected: Wanted): Promise<void> {
    const { channel } = await this.plain()
    await this.#empty(channel, QUEUE, (message) => this.#taken(message))
    await this.#empty(channel, DEAD, (message) => {
      const { id } = parcelOf(message)
      this.book.write('reader', 'dlq_seen', 'ok', {
        msgId: id,
        group: GROUP,
        reason: reasonOf(message),
      })
    })
    this.book.write('reader', 'process_end', 'ok')
    this.book.judge({ groups: [GROUP], ...expected })
  }

  async end(): Promise<void> {
    for (const cleanUp of this.#cleanUps.splice(0).toReversed()) await cleanUp()
  }

  #keep(event: HoldfastEvent): void {
    // One of each message would be all that is in it.
    if (event.type !== 'publish.confirmed') this.events.push(event)
  }

  #taken(message: ConsumeMessage): void {
    const { id } = parcelOf(message)
    const { deliveryTag, redelivered } = message.fields
    const facts = { msgId: id, group: GROUP, delivery: String(deliveryTag) }
    this.book.write('reader', 'deliver', 'ok', { ...facts, redelivered })
    this.book.write('reader', 'settle', 'ok', { ...facts, outcome: 'ack' })
    this.book.copies.set(id, (this.book.copies.get(id) ?? 0) + 1)
  }

  async #empty(
    channel: ConfirmChannel,
    queue: string,
    take: (message: ConsumeMessage) => void,
  ): Promise<void> {
    let last = performance.now()
    await channel.prefetch(1_000)
    const { consumerTag } = await channel.consume(queue, (message) => {
      if (message === null) return
      last = performance.now()
      take(message)
      channel.ack(message)
    })
    await this.soon(
      () => `${queue} was not emptied`,
      async () => {
        const { messageCount } = await channel.checkQueue(queue)
        return messageCount === 0 && performance.now() - last > QUIET_MS
      },
    )
    await channel.cancel(consumerTag)
  }
}

/** The parcel in a message, whoever sent it. */
export function parcelOf({ content }: Pick<ConsumeMessage, 'content'>): Parcel {
  return JSON.parse(content.toString('utf8')) as Parcel
}

/** Why it is a dead letter: our own word, or the broker's. */
function reasonOf({ properties }: ConsumeMessage): string {
  const headers = properties.headers ?? {}
  return String(headers['holdfast-dead-reason'] ?? headers['x-first-death-reason'] ?? '')
}
