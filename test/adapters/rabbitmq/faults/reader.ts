import { ReliableConsumer, type HoldfastEvent } from 'holdfast'
import { rabbitmq, type RabbitmqOptions } from 'holdfast/rabbitmq'

import { FaultProxy } from '../../../brokers/proxy/fault-proxy.ts'
import { GROUP, NAME, Parcels, type FaultStage, type Parcel } from './fault-stage.ts'

/** How a reader reads. */
export interface ReaderSetup {
  readonly handle?: (parcel: Parcel, signal: AbortSignal) => unknown
  /** Default 100. */
  readonly prefetch?: number
  /** Default 16. */
  readonly concurrency?: number
  readonly options?: Partial<RabbitmqOptions>
}

/** A consumer with a proxy of its own, which may be killed; what it gets and finishes is written down. */
export class Reader {
  readonly proxy: FaultProxy
  readonly events: HoldfastEvent[] = []
  /** How often its handler was called, and how many messages it finished. */
  started = 0
  done = 0
  readonly #stage: FaultStage
  readonly #name: string
  readonly #consumer: ReliableConsumer<typeof Parcels>
  /** The delivery that a message is in, by the message's own id. */
  readonly #deliveries = new Map<string, { readonly msgId: string; readonly delivery: string }>()

  private constructor(stage: FaultStage, name: string, proxy: FaultProxy, setup: ReaderSetup) {
    const { prefetch = 100, concurrency = 16, handle = () => undefined, options = {} } = setup
    this.proxy = proxy
    this.#stage = stage
    this.#name = name
    this.#consumer = new ReliableConsumer({
      broker: rabbitmq({ url: stage.node.url(stage.vhost.name, proxy.port), ...options }),
      topic: Parcels,
      topics: { [NAME]: { groups: [GROUP], retryLevelsMs: [1_000] } },
      group: GROUP,
      concurrency,
      prefetch: { messages: prefetch },
      logging: 'silent',
      on: (event) => this.#told(event),
      handler: async (parcel, { id, signal }) => {
        this.#takes(parcel, id)
        await handle(parcel, signal)
        // Nothing that is told later would say which one it was.
        if (id === null) this.#finished(parcel.id)
      },
    })
  }

  /** Reads when it resolves; closed with the stage. */
  static async start(stage: FaultStage, name: string, setup: ReaderSetup = {}): Promise<Reader> {
    const target = { host: '127.0.0.1', port: stage.node.address.amqpPort }
    const proxy = await FaultProxy.start({ target: () => target })
    const reader = new Reader(stage, name, proxy, setup)
    stage.defer(() => reader.kill())
    await reader.#consumer.start()
    return reader
  }

  /** Finishes what it has begun. */
  async drain(): Promise<void> {
    await this.#consumer.drain({ timeoutMs: 20_000 })
  }

  /** For the broker as if its process were gone: nothing it does after that arrives anywhere. */
  async kill(): Promise<void> {
    this.proxy.refuse()
    this.proxy.reset()
    await this.#consumer.close({ timeoutMs: 2_000 }).catch(() => undefined)
    await this.proxy.close()
  }

  #takes({ id: msgId }: Parcel, id: string | null): void {
    const delivery = String(++this.started)
    this.#deliveries.set(id ?? msgId, { msgId, delivery })
    this.#stage.book.write(this.#name, 'deliver', 'ok', { msgId, group: GROUP, delivery })
  }

  #told(event: HoldfastEvent): void {
    this.events.push(event)
    if (event.type === 'message.done' && event.id !== null) this.#finished(event.id)
  }

  #finished(id: string): void {
    this.done++
    const facts = this.#deliveries.get(id)
    if (facts === undefined) return
    this.#stage.book.write(this.#name, 'settle', 'ok', { ...facts, group: GROUP, outcome: 'ack' })
  }
}
