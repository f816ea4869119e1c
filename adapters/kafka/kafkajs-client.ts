import type { Kafka, KafkaConfig, SASLOptions } from 'kafkajs'

import type { Random } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { KafkajsClient, Resolved } from './options.ts'
import type { SaslOptions } from './security.ts'

/** What a client is made from. */
export type KafkajsSettings = Pick<
  Resolved,
  'addresses' | 'client' | 'clientId' | 'tls' | 'sasl' | 'connectTimeoutMs' | 'requestTimeoutMs'
>

/** The part of the package that is used. */
export interface Kafkajs {
  readonly Kafka: new (config: KafkaConfig) => Kafka
}

/** Levels of kafkajs's own logging. */
const LOG_NOTHING = 0
/** Enough for one of the addresses to be away. */
const RETRY = { retries: 1, initialRetryTime: 100 }
/** A connection is logged in again when that much of its session is left. */
const REAUTHENTICATE_MS = 10_000

/**
 * The user's client, or one made with these settings; of both one whose connections do not wake the
 * process a thousand times a second. Rejects with a `HoldfastError` (code `missing-package`) that names
 * the install command when kafkajs is not installed. Does no I/O.
 */
export async function kafkajsClient(
  settings: KafkajsSettings,
  random: Random,
  load: () => Promise<Kafkajs> = loadKafkajs,
): Promise<KafkajsClient> {
  if (settings.client !== null) return quiet(settings.client)
  const { Kafka } = await load()
  return quiet(new Kafka(configOf(settings, random)))
}

async function loadKafkajs(): Promise<Kafkajs> {
  try {
    // Of the old kind: its names are found under the default export in any case.
    const loaded: Kafkajs & { readonly default?: Kafkajs } = await import('kafkajs')
    return loaded.default ?? loaded
  } catch (cause) {
    const text = 'the Kafka adapter needs the package kafkajs (2.2.4): npm install kafkajs@2.2.4'
    throw new HoldfastError('missing-package', text, { cause })
  }
}

function configOf(settings: KafkajsSettings, random: Random): KafkaConfig {
  const { addresses, clientId, tls, sasl, connectTimeoutMs, requestTimeoutMs } = settings
  return {
    // In any order: a node that hangs shall not be the first one for everybody for ever.
    brokers: () => shuffled(addresses, random),
    clientId,
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: connectTimeoutMs,
    reauthenticationThreshold: REAUTHENTICATE_MS,
    requestTimeout: requestTimeoutMs,
    // Who asks tries again by itself, in its own time, and knows why it has to.
    retry: RETRY,
    logLevel: LOG_NOTHING,
    // Its environment variable would turn it on again.
    logCreator: () => () => undefined,
    ...(tls === null ? {} : { ssl: tls as NonNullable<KafkaConfig['ssl']> }),
    ...(sasl === null ? {} : { sasl: saslOf(sasl) }),
  }
}

function saslOf(sasl: SaslOptions): SASLOptions {
  // A copy: kafkajs writes into what it is given.
  if (sasl.mechanism !== 'oauthbearer') return { ...sasl }
  const { mechanism, token } = sasl
  const oauthBearerProvider = async (): Promise<{ value: string }> => {
    try {
      return { value: await token() }
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      throw new HoldfastError('unavailable', `the option sasl.token gave no token: ${why}`, {
        cause,
      })
    }
  }
  return { mechanism, oauthBearerProvider }
}

function shuffled(addresses: readonly string[], random: Random): string[] {
  const keyed = addresses.map((address) => [random.next(), address] as const)
  return keyed.sort(([one], [other]) => one - other).map(([, address]) => address)
}

/** What waits to be written on a connection of kafkajs. */
interface RequestQueue {
  readonly pending?: readonly unknown[]
  scheduleCheckPendingRequests?: () => void
}

interface ClusterInside {
  readonly brokerPool?: { createBroker?: (options: BrokerOptions) => unknown }
}

interface BrokerOptions {
  readonly connectionPool?: { readonly pool?: readonly Connection[] }
}

interface Connection {
  readonly requestQueue?: RequestQueue
  readonly socket?: { readonly destroyed: boolean; unref: () => unknown }
  disconnect?: () => Promise<unknown>
}

/**
 * The same client with two habits less: each connection of kafkajs looks every millisecond for requests
 * that wait, for ever, also when none does and after it was closed (tulios/kafkajs#1751); and each try to
 * reach a node that is away leaves a listener on the sockets that died before. The given object is not
 * changed; one whose insides are not known stays as it is.
 */
function quiet(client: KafkajsClient): KafkajsClient {
  const symbol = Object.getOwnPropertySymbols(client).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  )
  const create = symbol && (client as unknown as Record<symbol, unknown>)[symbol]
  if (symbol === undefined || typeof create !== 'function') return client
  const createQuiet = (options: object): unknown => {
    const cluster = (create as (options: object) => unknown)(options)
    quietCluster(cluster as ClusterInside)
    return cluster
  }
  return Object.create(client, { [symbol]: { value: createQuiet } }) as KafkajsClient
}

function quietCluster({ brokerPool }: ClusterInside): void {
  const createBroker = brokerPool?.createBroker
  if (brokerPool === undefined || createBroker === undefined) return
  brokerPool.createBroker = (options) => {
    for (const connection of options.connectionPool?.pool ?? []) {
      if (connection.requestQueue !== undefined) quietQueue(connection.requestQueue)
      leaveDead(connection)
    }
    return createBroker.call(brokerPool, options)
  }
}

function quietQueue(queue: RequestQueue): void {
  const schedule = queue.scheduleCheckPendingRequests
  if (schedule === undefined || !Array.isArray(queue.pending)) return
  queue.scheduleCheckPendingRequests = () => {
    if (queue.pending?.length !== 0) schedule.call(queue)
  }
}

/** Node lets go of a socket that is gone only once it is connected, which it never will be. */
function leaveDead(connection: Connection): void {
  const disconnect = connection.disconnect
  if (disconnect === undefined) return
  connection.disconnect = () => {
    const { socket } = connection
    if (socket?.destroyed === true) socket.unref = () => socket
    return disconnect.call(connection)
  }
}
