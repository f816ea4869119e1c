import { OptionError, shown } from '../../src/contract/errors.ts'
import { choiceOption, integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'
import { resolveMap, type MappedTopic } from './mapping.ts'
import { urlText } from './url-text.ts'

/** What a connection logs in with; asked anew for every connect. */
export type Credentials =
  | {
      readonly username: string
      /** A password, or an OAuth 2 access token. */
      readonly password: string
      /** How long it is good from now on; a token is renewed on the living connection at 80 % of it. Default: for ever. */
      readonly expiresInMs?: number
    }
  /** The client certificate in `tls` is the identity (mechanism EXTERNAL). */
  | { readonly external: true }

/** TLS material of `amqps://` connections, as `node:tls` takes it. */
export interface TlsOptions {
  readonly ca?: string | Buffer | readonly (string | Buffer)[]
  readonly cert?: string | Buffer
  readonly key?: string | Buffer
  readonly passphrase?: string
  /** Default: the URL's host name. */
  readonly servername?: string
  /** Default true; `false` is warned about, since anybody may then sit in between. */
  readonly rejectUnauthorized?: boolean
}

/** Options of `rabbitmq`. */
export interface RabbitmqOptions {
  /** `amqp://` or `amqps://`; several are the nodes of one cluster, tried in random order. */
  readonly url: string | readonly string[]
  /** Asked on every connect; used instead of what the URL says. Default: the URL's, else guest. */
  readonly credentials?: () => Promise<Credentials>
  readonly tls?: TlsOptions
  /** A dead peer is noticed within twice that, in seconds. Default 15. */
  readonly heartbeatS?: number
  /** TCP, TLS and AMQP handshakes together. Default 10 000. */
  readonly connectTimeoutMs?: number
  /** Any request to the broker; when it passes, the connection is replaced. Default 10 000. */
  readonly rpcTimeoutMs?: number
  /** From the write to the broker's word, not counting while it blocks; then the outcome is unknown. Default 30 000. */
  readonly confirmTimeoutMs?: number
  /** Unconfirmed messages per sending channel, 1 to 1 000. Default 1 000. */
  readonly window?: number
  /** Largest body; the broker's own `max_message_size` is 16 MiB by default. Default 16 MiB. */
  readonly maxBodyBytes?: number
  /** Stands before the name of every exchange and queue of ours, for example `test.`. Default none. */
  readonly prefix?: string
  /** The management plugin, for example `http://localhost:15672`: policies instead of fixed arguments, full audit, bindings looked at. */
  readonly managementUrl?: string
  /** Shown in the management UI. Default `holdfast`. */
  readonly connectionName?: string
  /** Type of group queues; retry and dead-letter queues are always quorum. Default 'quorum'. */
  readonly queueType?: 'quorum' | 'classic'
  /** Failed deliveries after which a quorum queue dead-letters by itself. Default 20. */
  readonly deliveryLimit?: number
  /** How long a delivery may be held unsettled, at least 120 000; told to the broker where it takes it. Default 1 800 000. */
  readonly consumerTimeoutMs?: number
  /**
   * The broker's own delayed retry, from version 4.3 on and on quorum queues of ours for topics without
   * order. Its waits are its own, not those of `retry.backoff`: `minMs` longer with each failure, up to
   * `maxMs`. A back-off that asks for more takes the delay queues as without it, so no retry is early.
   * It delays and counts what a lost connection brings back as well. Default false.
   */
  readonly nativeRetry?: { readonly minMs: number; readonly maxMs: number } | false
  /** Consume from a mapped quorum queue that drops messages at its delivery limit, since it has no dead-letter exchange. Default false. */
  readonly allowDropOnLimit?: boolean
  /** Exchanges and queues that exist already, by topic. */
  readonly map?: Readonly<Record<string, MappedTopic>>
}

/** All options with their defaults; frozen. */
export interface Resolved {
  readonly urls: readonly string[]
  readonly credentials: (() => Promise<Credentials>) | null
  readonly tls: TlsOptions | null
  readonly heartbeatS: number
  readonly connectTimeoutMs: number
  readonly rpcTimeoutMs: number
  readonly confirmTimeoutMs: number
  readonly window: number
  readonly maxBodyBytes: number
  readonly prefix: string
  readonly managementUrl: string | null
  readonly connectionName: string
  readonly queueType: 'quorum' | 'classic'
  readonly deliveryLimit: number
  readonly consumerTimeoutMs: number
  readonly nativeRetry: { readonly minMs: number; readonly maxMs: number } | null
  readonly allowDropOnLimit: boolean
  readonly map: ReadonlyMap<string, MappedTopic>
}

const names: readonly (keyof RabbitmqOptions)[] = [
  'url',
  'credentials',
  'tls',
  'heartbeatS',
  'connectTimeoutMs',
  'rpcTimeoutMs',
  'confirmTimeoutMs',
  'window',
  'maxBodyBytes',
  'prefix',
  'managementUrl',
  'connectionName',
  'queueType',
  'deliveryLimit',
  'consumerTimeoutMs',
  'nativeRetry',
  'allowDropOnLimit',
  'map',
]

/** Longest timer the broker and Node take; also what a consumer timeout may be. */
const LONGEST_MS = 2_147_483_647
/** More than that is no prefix and leaves no room for names. */
const LONGEST_PREFIX = 64

/** All options with their defaults; throws an `OptionError` that names the first wrong one, without secrets. */
export function resolveOptions(given: RabbitmqOptions): Resolved {
  if (typeof given !== 'object' || given === null) {
    throw new OptionError('rabbitmq', given, "an object with at least { url: 'amqp://…' }")
  }
  refuseUnknownOptions('rabbitmq', given, names)
  const queueType = choiceOption('queueType', given.queueType, 'quorum', ['quorum', 'classic'])
  return Object.freeze<Resolved>({
    urls: checkedUrls(given.url),
    credentials: checkedFunction(given.credentials),
    tls: checkedObject('tls', given.tls),
    heartbeatS: integerOption('heartbeatS', given.heartbeatS, 15, { min: 5, max: 3_600 }),
    connectTimeoutMs: timeOption('connectTimeoutMs', given.connectTimeoutMs, 10_000),
    rpcTimeoutMs: timeOption('rpcTimeoutMs', given.rpcTimeoutMs, 10_000),
    confirmTimeoutMs: timeOption('confirmTimeoutMs', given.confirmTimeoutMs, 30_000),
    window: integerOption('window', given.window, 1_000, { min: 1, max: 1_000 }),
    maxBodyBytes: integerOption('maxBodyBytes', given.maxBodyBytes, 16_777_216, {
      min: 1,
      max: 536_870_912,
    }),
    prefix: checkedPrefix(given.prefix ?? ''),
    managementUrl: checkedManagementUrl(given.managementUrl),
    connectionName: checkedText('connectionName', given.connectionName, 'holdfast'),
    queueType,
    deliveryLimit: integerOption('deliveryLimit', given.deliveryLimit, 20, {
      min: 1,
      max: 1_000_000,
    }),
    consumerTimeoutMs: integerOption('consumerTimeoutMs', given.consumerTimeoutMs, 1_800_000, {
      min: 120_000,
      max: LONGEST_MS,
    }),
    nativeRetry: checkedNativeRetry(given.nativeRetry, queueType),
    allowDropOnLimit: checkedFlag('allowDropOnLimit', given.allowDropOnLimit),
    map: resolveMap(given.map),
  })
}

function timeOption(name: string, value: number | undefined, fallback: number): number {
  return integerOption(name, value, fallback, { min: 100, max: LONGEST_MS })
}

function checkedUrls(given: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(given) ? given : [given]
  const allowed = "'amqp://host:5672/vhost', 'amqps://…', or a list of them with at least one"
  if (list.length === 0) throw new OptionError('url', given, allowed)
  return Object.freeze(list.map((url) => checkedUrl(url, allowed)))
}

function checkedUrl(url: unknown, allowed: string): string {
  if (typeof url !== 'string') throw new OptionError('url', url, allowed)
  const parsed = URL.canParse(url) ? new URL(url) : null
  const wrong = parsed === null || !['amqp:', 'amqps:'].includes(parsed.protocol)
  if (wrong || parsed.hostname === '') throw new OptionError('url', urlText(url), allowed)
  if (parsed.search !== '') {
    const options = 'a URL without parameters: heartbeatS, connectTimeoutMs and tls are options'
    throw new OptionError('url', urlText(url), options)
  }
  return url
}

function checkedManagementUrl(url: unknown): string | null {
  if (url === undefined) return null
  const allowed = "'http://host:15672' or 'https://…'; the log-in is the broker's own"
  const text = typeof url === 'string' ? url : ''
  const parsed = URL.canParse(text) ? new URL(text) : null
  if (parsed === null || !['http:', 'https:'].includes(parsed.protocol)) {
    throw new OptionError('managementUrl', typeof url === 'string' ? urlText(url) : url, allowed)
  }
  return text.replace(/\/+$/, '')
}

function checkedPrefix(prefix: unknown): string {
  const allowed = `at most ${LONGEST_PREFIX} of A-Z, a-z, 0-9, ".", "_" and "-"`
  if (typeof prefix === 'string' && /^[A-Za-z0-9._-]*$/.test(prefix)) {
    // The broker keeps names that start like this to itself and answers 403.
    const reserved = prefix.startsWith('amq.')
    if (prefix.length <= LONGEST_PREFIX && !reserved) return prefix
  }
  throw new OptionError('prefix', prefix, `${allowed}, not starting with "amq."`)
}

function checkedNativeRetry(given: unknown, queueType: string): Resolved['nativeRetry'] {
  if (given === undefined || given === false) return null
  const { minMs, maxMs } = (given ?? {}) as { minMs?: number; maxMs?: number }
  if (minMs === undefined || maxMs === undefined) {
    throw new OptionError('nativeRetry', given, '{ minMs, maxMs } or false')
  }
  if (queueType !== 'quorum') {
    throw new OptionError('nativeRetry', given, "false with queueType 'classic'")
  }
  const least = integerOption('nativeRetry.minMs', minMs, 0, { min: 1, max: LONGEST_MS })
  const most = integerOption('nativeRetry.maxMs', maxMs, 0, { min: least, max: LONGEST_MS })
  return Object.freeze({ minMs: least, maxMs: most })
}

function checkedFunction(given: unknown): Resolved['credentials'] {
  if (given === undefined) return null
  if (typeof given === 'function') return given as () => Promise<Credentials>
  throw new OptionError('credentials', 'something else', 'a function that returns a promise')
}

function checkedObject(name: string, given: unknown): TlsOptions | null {
  if (given === undefined) return null
  if (typeof given === 'object' && given !== null) return Object.freeze({ ...given })
  throw new OptionError(
    name,
    given,
    '{ ca, cert, key, passphrase, servername, rejectUnauthorized }',
  )
}

function checkedFlag(name: string, given: unknown): boolean {
  if (given === undefined || typeof given === 'boolean') return given ?? false
  throw new OptionError(name, shown(given), 'true or false')
}

function checkedText(name: string, given: unknown, fallback: string): string {
  if (given === undefined) return fallback
  if (typeof given === 'string' && given !== '' && given.length <= 200) return given
  throw new OptionError(name, given, 'a text of 1 to 200 characters')
}
