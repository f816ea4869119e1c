import { OptionError } from '../../src/contract/errors.ts'
import {
  checkMethod,
  choiceOption,
  integerOption,
  refuseUnknownOptions,
} from '../../src/contract/option.ts'
import { resolveAddresses } from './addresses.ts'
import { resolveMap, type MappedTopic } from './mapping.ts'
import { resolveSasl, resolveTls, type SaslOptions, type TlsOptions } from './security.ts'

/** A client library this adapter can work through. */
export type DriverName = 'kafkajs' | 'platformatic'

/** Which partition of how many a key belongs to. Has to be the same for ever, or keys change their place. */
export type Partitioner = (key: Uint8Array, partitions: number) => number

/** How batches are compressed when they are written; reading takes all of them. */
export type Compression = 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'

/** A `Kafka` object of kafkajs, as far as it is asked for its parts. */
export interface KafkajsClient {
  producer(config: never): unknown
  consumer(config: never): unknown
  admin(config: never): unknown
}

/** Options of `kafka`. One of `brokers`, `url` and `client` says where the cluster is. */
export interface KafkaOptions {
  /** `host:port`; several are tried in turn until one tells of the others. */
  readonly brokers?: string | readonly string[]
  /** The same as a URL: `kafka://host:port,host:port`. */
  readonly url?: string | readonly string[]
  /** A `Kafka` object of kafkajs 2.2.4: its addresses, log-in, time limits and logging are used. */
  readonly client?: KafkajsClient
  /** Name of this process in the broker's logs and quotas. Default `holdfast`. */
  readonly clientId?: string
  /** Stands before the name of every topic and group of ours, for example `test.`. Default none. */
  readonly prefix?: string
  /** The client library, for both ways or each. Default 'kafkajs'. */
  readonly driver?: DriverName | { readonly producer: DriverName; readonly consumer: DriverName }
  /** `true`: by the system's authorities. Default false. */
  readonly tls?: boolean | TlsOptions
  /** Default: no log-in. */
  readonly sasl?: SaslOptions
  /** Copies of every topic made here, 1 to 32 767. Default 3, or as many as there are brokers. */
  readonly replication?: number
  /** Copies that have to have a record before it counts as stored; less than `replication`. Default: a majority of it. */
  readonly minInsyncReplicas?: number
  /** A consumer not heard of for that long has died, and others get its partitions; handlers may take longer. 1 000 to 1 800 000, as far as the broker allows. Default 10 000. */
  readonly sessionTimeoutMs?: number
  /** How long consumers have to come back when a group is divided anew. Default 60 000. */
  readonly rebalanceTimeoutMs?: number
  /** TCP, TLS and log-in together. Default 10 000. */
  readonly connectTimeoutMs?: number
  /** Any request to a broker. Default 30 000. */
  readonly requestTimeoutMs?: number
  /** Producers for the partitions of one leader, 1 to 16; each waits for one answer at a time. Default 1. */
  readonly producersPerLeader?: number
  /** 'java' (default): as the Java client and every current one; 'legacy': as kafkajs 1.x; or a function of your own. */
  readonly partitioner?: 'java' | 'legacy' | Partitioner
  /** By topic: go on as if it had that many partitions, so that keys stay where they are when it grows. */
  readonly frozenPartitionCount?: Readonly<Record<string, number>>
  /** Largest body, below what the topic takes in any case. Default: what the topic takes. */
  readonly maxBodyBytes?: number
  /** Default 'none'. */
  readonly compression?: Compression
  /** Weak durability settings are errors instead of warnings: nothing is published or consumed then. Default false. */
  readonly strict?: boolean
  /** Topics and groups that exist already, by topic. */
  readonly map?: Readonly<Record<string, MappedTopic>>
}

/** All options with their defaults; frozen. */
export interface Resolved {
  /** Empty when a client was given. */
  readonly addresses: readonly string[]
  readonly client: KafkajsClient | null
  readonly clientId: string
  readonly prefix: string
  readonly driver: { readonly producer: DriverName; readonly consumer: DriverName }
  readonly tls: TlsOptions | null
  readonly sasl: SaslOptions | null
  /** `null`: 3, or as many as there are brokers. */
  readonly replication: number | null
  /** `null`: a majority of the copies. */
  readonly minInsyncReplicas: number | null
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly producersPerLeader: number
  readonly partitioner: 'java' | 'legacy' | Partitioner
  readonly frozenPartitionCount: ReadonlyMap<string, number>
  /** `null`: what the topic takes. */
  readonly maxBodyBytes: number | null
  readonly compression: Compression
  readonly strict: boolean
  readonly map: ReadonlyMap<string, MappedTopic>
}

const names: readonly (keyof KafkaOptions)[] = [
  'brokers',
  'url',
  'client',
  'clientId',
  'prefix',
  'driver',
  'tls',
  'sasl',
  'replication',
  'minInsyncReplicas',
  'sessionTimeoutMs',
  'rebalanceTimeoutMs',
  'connectTimeoutMs',
  'requestTimeoutMs',
  'producersPerLeader',
  'partitioner',
  'frozenPartitionCount',
  'maxBodyBytes',
  'compression',
  'strict',
  'map',
]

const driverNames = ['kafkajs', 'platformatic'] as const
const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
/** Said by the client, which was made with them. */
const ofTheClient = ['clientId', 'tls', 'sasl', 'connectTimeoutMs', 'requestTimeoutMs'] as const

/** More than that is no prefix and leaves no room for names. */
const LONGEST_PREFIX = 64
const LONGEST_MS = 1_800_000

/** All options with their defaults; throws an `OptionError` that names the first wrong one, without secrets. */
export function resolveOptions(given: KafkaOptions): Resolved {
  if (typeof given !== 'object' || given === null) {
    throw new OptionError('kafka', given, "an object with at least { brokers: 'host:9092' }")
  }
  refuseUnknownOptions('kafka', given, names)
  const driver = resolveDriver(given.driver)
  const client = resolveClient(given, driver)
  const replication = countOption('replication', given.replication, 32_767)
  return Object.freeze<Resolved>({
    addresses: addressesOf(given),
    client,
    clientId: textOption('clientId', given.clientId, 'holdfast'),
    prefix: resolvePrefix(given.prefix ?? ''),
    driver,
    tls: resolveTls(given.tls),
    sasl: resolveSasl(given.sasl),
    replication,
    minInsyncReplicas: resolveMinInsync(given.minInsyncReplicas, replication),
    sessionTimeoutMs: timeOption('sessionTimeoutMs', given.sessionTimeoutMs, 10_000, 1_000),
    rebalanceTimeoutMs: timeOption('rebalanceTimeoutMs', given.rebalanceTimeoutMs, 60_000, 1_000),
    connectTimeoutMs: timeOption('connectTimeoutMs', given.connectTimeoutMs, 10_000, 100),
    requestTimeoutMs: timeOption('requestTimeoutMs', given.requestTimeoutMs, 30_000, 1_000),
    producersPerLeader: integerOption('producersPerLeader', given.producersPerLeader, 1, {
      min: 1,
      max: 16,
    }),
    partitioner: resolvePartitioner(given.partitioner),
    frozenPartitionCount: resolveFrozen(given.frozenPartitionCount),
    maxBodyBytes: countOption('maxBodyBytes', given.maxBodyBytes, 1_073_741_824),
    compression: choiceOption('compression', given.compression, 'none', codecs),
    strict: flagOption('strict', given.strict),
    map: resolveMap(given.map),
  })
}

function addressesOf({ brokers, url, client }: KafkaOptions): readonly string[] {
  const count = [brokers, url, client].filter((one) => one !== undefined).length
  if (count !== 1) {
    const allowed = "one of brokers: 'host:port', url: 'kafka://host:port' and client: new Kafka(…)"
    throw new OptionError('brokers', count === 0 ? undefined : `${count} of them`, allowed)
  }
  if (client !== undefined) return []
  return brokers === undefined ? resolveAddresses('url', url) : resolveAddresses('brokers', brokers)
}

function resolveClient(given: KafkaOptions, driver: Resolved['driver']): KafkajsClient | null {
  const { client } = given
  if (client === undefined) return null
  checkMethod('client', client, 'producer', 'a Kafka object of kafkajs')
  if (driver.producer !== 'kafkajs' || driver.consumer !== 'kafkajs') {
    throw new OptionError('client', client, "nothing unless the driver is 'kafkajs' for both ways")
  }
  for (const name of ofTheClient) {
    if (given[name] === undefined) continue
    throw new OptionError(name, 'something', 'nothing beside client, which was made with it')
  }
  return client
}

function resolveDriver(given: unknown): Resolved['driver'] {
  if (typeof given === 'object' && given !== null) {
    refuseUnknownOptions('driver', given, ['producer', 'consumer'])
    const { producer, consumer } = given as Partial<Resolved['driver']>
    return Object.freeze({
      producer: choiceOption('driver.producer', producer, 'kafkajs', driverNames),
      consumer: choiceOption('driver.consumer', consumer, 'kafkajs', driverNames),
    })
  }
  const both = choiceOption('driver', given as DriverName | undefined, 'kafkajs', driverNames)
  return Object.freeze({ producer: both, consumer: both })
}

function resolveMinInsync(given: number | undefined, replication: number | null): number | null {
  const least = countOption('minInsyncReplicas', given, 32_767)
  if (least === null || replication === null || least < replication) return least
  // As many as there are copies: no publish would succeed while one of them is away.
  if (least === 1 && replication === 1) return least
  throw new OptionError(
    'minInsyncReplicas',
    given,
    `less than replication, which is ${replication}`,
  )
}

function resolvePartitioner(given: unknown): Resolved['partitioner'] {
  if (typeof given === 'function') return given as Partitioner
  return choiceOption('partitioner', given as 'java' | undefined, 'java', ['java', 'legacy'])
}

function resolveFrozen(given: unknown): ReadonlyMap<string, number> {
  if (given === undefined) return new Map()
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new OptionError('frozenPartitionCount', given, '{ [topic]: number of partitions }')
  }
  const entries = Object.entries(given as Record<string, number>)
  for (const [topic, count] of entries) {
    integerOption(`frozenPartitionCount.${topic}`, count, 1, { min: 1, max: 10_000 })
  }
  return new Map(entries)
}

function resolvePrefix(prefix: unknown): string {
  const isPrefix = typeof prefix === 'string' && /^[A-Za-z0-9._-]*$/.test(prefix)
  if (isPrefix && prefix.length <= LONGEST_PREFIX) return prefix
  throw new OptionError(
    'prefix',
    prefix,
    `at most ${LONGEST_PREFIX} of A-Z, a-z, 0-9, ".", "_" and "-"`,
  )
}

function countOption(name: string, value: number | undefined, max: number): number | null {
  return value === undefined ? null : integerOption(name, value, 1, { min: 1, max })
}

function timeOption(
  name: string,
  value: number | undefined,
  fallback: number,
  min: number,
): number {
  return integerOption(name, value, fallback, { min, max: LONGEST_MS })
}

function flagOption(name: string, given: unknown): boolean {
  if (given === undefined || typeof given === 'boolean') return given ?? false
  throw new OptionError(name, given, 'true or false')
}

function textOption(name: string, given: unknown, fallback: string): string {
  if (given === undefined) return fallback
  if (typeof given === 'string' && given !== '' && given.length <= 200) return given
  throw new OptionError(name, given, 'a text of 1 to 200 characters')
}
