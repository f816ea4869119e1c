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
import { KafkajsAdmin } from './kafkajs-admin.ts'
import { kafkajsClient } from './kafkajs-client.ts'
import { joinByKafkajs } from './kafkajs-consumer.ts'
import { KafkajsProducer } from './kafkajs-producer.ts'
import type { Clusters } from './kafkajs-cluster.ts'
import type { KafkajsClient, Resolved } from './options.ts'
import type { Decompress } from './record-batch.ts'
import { Transactors } from './transactor.ts'

/** What kafkajs can keep, with what is done around it here. */
const CAPS: DriverCaps = Object.freeze({
  idempotent: true,
  // Its own offsets in transactions carry no generation, so that a member that was replaced could commit.
  txn: 'none',
  whyNotFenced:
    "kafkajs commits the offsets of a transaction without the consumer's generation, so that one that was replaced could commit them; choose driver: 'platformatic', on Node 22.22 or later",
  commitMetadata: true,
  partitionPause: true,
  staticMembership: false,
})

/** Longest that questions about the cluster take, tries again included. */
const ADMIN_MS = 8_000

/**
 * A driver through kafkajs 2.2.4. Rejects with code `missing-package` when kafkajs or what a chosen
 * compression needs is not installed. Connects nowhere yet.
 */
export async function kafkajsDriver(
  options: Resolved,
  context: BrokerContext,
): Promise<KafkaDriver> {
  const client = await kafkajsClient(options, context.random)
  return driverOn({ name: 'kafkajs', caps: CAPS, client }, options, context)
}

/** A client library, and what is kept through it. */
export interface DriverClient {
  readonly name: string
  readonly caps: DriverCaps
  readonly client: KafkajsClient | Clusters
}

/** A driver of which only the connections are the client's. Rejects like `kafkajsDriver`. */
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
  readonly admin: KafkajsAdmin
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
    this.admin = new KafkajsAdmin({ ...context, client, timeoutMs, decompress: this.#decompress })
  }

  producer(): DriverProducer {
    if (this.#closing !== null) throw new ClosedError('broker')
    const { connectTimeoutMs, requestTimeoutMs } = this.#options
    const producer = new KafkajsProducer({
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
    const consumer = await joinByKafkajs(own, spec, callbacks, deadline, signal)
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
