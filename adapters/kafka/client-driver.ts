import type { BrokerContext, Deadline } from '../../src/contract/broker.ts'
import { ClosedError } from '../../src/contract/errors.ts'
import { UuidSource } from '../../src/contract/uuid.ts'
import type { BatchCodec } from './batch-writer.ts'
import { Codecs } from './codecs.ts'
import type {
  ConsumerCallbacks,
  DriverCaps,
  DriverConsumer,
  DriverProducer,
  GroupSpec,
  KafkaDriver,
} from './driver.ts'
import { ClusterAdmin } from './cluster-admin.ts'
import { joinGroup } from './group-consumer.ts'
import { IdempotentProducer } from './idempotent-producer.ts'
import type { Clusters } from './cluster.ts'
import type { KafkajsClient, Resolved } from './options.ts'
import type { Decompress } from './record-batch.ts'
import { Transactors } from './transactor.ts'

/** Longest that questions about the cluster take, tries again included. */
const ADMIN_MS = 8_000

/** A client library, and what is kept through it. */
export interface DriverClient {
  readonly name: string
  readonly caps: DriverCaps
  readonly client: KafkajsClient | Clusters
}

/**
 * A driver of which only the connections are the client's. Rejects with code `missing-package` when what a
 * chosen compression needs is not installed.
 */
export async function driverOn(
  from: DriverClient,
  options: Resolved,
  context: BrokerContext,
): Promise<KafkaDriver> {
  const codecs = new Codecs()
  const codec = await codecs.writing(options.compression)
  return new ClientDriver(from, codecs, codec, options, context)
}

class ClientDriver implements KafkaDriver {
  readonly name: string
  readonly caps: DriverCaps
  readonly admin: ClusterAdmin
  readonly #client: KafkajsClient | Clusters
  readonly #codecs: Codecs
  readonly #codec: BatchCodec | null
  readonly #decompress: Decompress
  readonly #options: Resolved
  readonly #context: BrokerContext
  readonly #producers = new Set<DriverProducer>()
  readonly #consumers = new Set<DriverConsumer>()
  #closing: Promise<void> | null = null

  constructor(
    { name, caps, client }: DriverClient,
    codecs: Codecs,
    codec: BatchCodec | null,
    options: Resolved,
    context: BrokerContext,
  ) {
    this.name = name
    this.caps = caps
    this.#client = client
    this.#codecs = codecs
    this.#codec = codec
    this.#options = options
    this.#context = context
    const timeoutMs = Math.min(ADMIN_MS, options.requestTimeoutMs)
    this.#decompress = (type, bytes) => codecs.decompress(type, bytes)
    this.admin = new ClusterAdmin({ ...context, client, timeoutMs, decompress: this.#decompress })
  }

  producer(): DriverProducer {
    if (this.#closing !== null) throw new ClosedError('broker')
    const { connectTimeoutMs, requestTimeoutMs } = this.#options
    const producer = new IdempotentProducer({
      ...this.#context,
      client: this.#client,
      codec: this.#codec,
      connectTimeoutMs,
      requestTimeoutMs,
    })
    const close = producer.close.bind(producer)
    producer.close = () => close().finally(() => this.#producers.delete(producer))
    this.#producers.add(producer)
    return producer
  }

  checkReading(compression: string): Promise<void> {
    return this.#codecs.checkReading(compression)
  }

  async consume(
    spec: GroupSpec,
    callbacks: ConsumerCallbacks,
    deadline: Deadline,
    signal?: AbortSignal,
  ): Promise<DriverConsumer> {
    if (this.#closing !== null) throw new ClosedError('broker')
    const { requestTimeoutMs } = this.#options
    const decompress = this.#decompress
    const client = this.#client
    const transactors = this.#transactors(spec.groupId)
    const own = { ...this.#context, client, decompress, requestTimeoutMs, transactors }
    const consumer = await joinGroup(own, spec, callbacks, deadline, signal)
    const close = consumer.close.bind(consumer)
    consumer.close = (until) => close(until).finally(() => this.#consumers.delete(consumer))
    this.#consumers.add(consumer)
    if (this.#closing !== null) {
      await consumer.close(deadline)
      throw new ClosedError('broker')
    }
    return consumer
  }

  #transactors(groupId: string): Transactors | null {
    if (this.caps.txn !== 'fenced') return null
    const { connectTimeoutMs, requestTimeoutMs } = this.#options
    const { clock, random } = this.#context
    // Nobody else's, and allowed together with the group, by its beginning.
    const idPrefix = `${groupId}.${new UuidSource(clock, random).next()}`
    const [client, codec] = [this.#client, this.#codec]
    return new Transactors({
      ...{ client, codec, clock, random, connectTimeoutMs, requestTimeoutMs, idPrefix },
    })
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #close(deadline: Deadline): Promise<void> {
    const consumers = [...this.#consumers].map((one) => one.close(deadline))
    const producers = [...this.#producers].map((one) => one.close())
    await Promise.allSettled([...consumers, ...producers])
    await this.admin.close(deadline)
  }
}
