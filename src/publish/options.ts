import type { Broker } from '../contract/broker.ts'
import type { Clock, Random } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import { OptionError } from '../contract/errors.ts'
import { injectedOptions } from '../contract/injected.ts'
import {
  checkMethod,
  choiceOption,
  functionOption,
  integerOption,
  refuseUnknownOptions,
} from '../contract/option.ts'
import type { OutboxStore } from '../contract/store.ts'
import type { TopicSettings, TopologyMode } from '../contract/topology.ts'
import type { Listener } from '../observe/emitter.ts'
import { loggingOption, type Logging } from '../observe/logging.ts'
import {
  resolveBreakerOptions,
  type BreakerOptions,
  type ResolvedBreakerOptions,
} from '../policy/circuit-breaker.ts'
import { resolveRetryPolicy, type RetryOptions, type RetryPolicy } from '../policy/retry.ts'
import type { Bounds } from '../send/deliver.ts'
import { resolveTopics } from './declared-topics.ts'

/** Bounds on everything published and not ended. */
export interface BufferOptions {
  /** Default 10 000. */
  readonly messages?: number
  /** Default 64 MiB. */
  readonly bytes?: number
  /** What a publish beyond the bounds does: wait for room (default) or fail with a `BufferFullError`. */
  readonly whenFull?: 'wait' | 'fail'
  /** How long it waits for room, in milliseconds, within its deadline. Default 5 000. */
  readonly waitMs?: number
}

/** What publisher and relay have in common. */
export interface CommonOptions {
  readonly broker: Broker
  /** What has to exist on the broker, by topic; declared before the first message and after each reconnect. */
  readonly topics?: Readonly<Record<string, TopicSettings>>
  /** Default 'create'. */
  readonly topology?: TopologyMode
  /** Default: results of the last 10 s, open above 50 % failures of at least 20, a probe after 1 s. */
  readonly breaker?: BreakerOptions
  /** Hears every event. */
  readonly on?: Listener
  /** Where warnings go. Default: stderr. */
  readonly logging?: Logging
  readonly clock?: Clock
  readonly random?: Random
  readonly crash?: CrashPoints
}

/** Options of `ReliablePublisher`. */
export interface PublisherOptions<Tx> extends CommonOptions {
  /** Where `publishIn` puts messages. Default: none. */
  readonly outbox?: OutboxStore<Tx>
  /** CloudEvents `source` of what is published. Default 'holdfast'. */
  readonly source?: string
  readonly buffer?: BufferOptions
  /** How long a publish may take in all, in milliseconds. Default 30 000. */
  readonly deadlineMs?: number
  /** Default: exponential from 50 ms to 5 s with full jitter, until the deadline. */
  readonly retry?: RetryOptions
  /** Puts messages into the outbox while the broker cannot be reached. Default false. */
  readonly divert?: boolean
  /** The current W3C trace context, written as header `traceparent`. Default: none. */
  readonly traceparent?: () => string | undefined
}

/** A publisher's options with every default filled in. */
export interface ResolvedPublisherOptions<Tx> extends ResolvedCommonOptions {
  readonly outbox: OutboxStore<Tx> | null
  readonly source: string
  readonly buffer: Bounds
  readonly deadlineMs: number
  readonly retry: RetryPolicy
  readonly divert: boolean
  readonly traceparent: (() => string | undefined) | null
}

/** What publisher and relay have in common, with every default filled in. */
export interface ResolvedCommonOptions {
  readonly broker: Broker
  readonly topics: ReadonlyMap<string, TopicSettings>
  readonly topology: TopologyMode
  readonly breaker: ResolvedBreakerOptions
  readonly on: Listener | undefined
  readonly logging: Logging | undefined
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
}

/** Names of `CommonOptions`. */
export const commonNames: readonly (keyof CommonOptions)[] = [
  'broker',
  'topics',
  'topology',
  'breaker',
  'on',
  'logging',
  'clock',
  'random',
  'crash',
]

const publisherNames: readonly (keyof PublisherOptions<never>)[] = [
  ...commonNames,
  'outbox',
  'source',
  'buffer',
  'deadlineMs',
  'retry',
  'divert',
  'traceparent',
]

const MEBIBYTE = 1_048_576

/** Fills in defaults, once; throws an `OptionError` with the option's name, value and range. */
export function resolvePublisherOptions<Tx>(
  given: PublisherOptions<Tx>,
): ResolvedPublisherOptions<Tx> {
  refuseUnknownOptions('ReliablePublisher', given, publisherNames)
  const { outbox = null, divert = false } = given
  if (outbox !== null) checkMethod('outbox', outbox, 'append', 'an outbox store')
  if (typeof divert !== 'boolean') throw new OptionError('divert', divert, 'true, false')
  if (divert && outbox === null) throw new OptionError('divert', divert, 'false without an outbox')
  return Object.freeze({
    ...resolveCommonOptions(given),
    outbox,
    source: checkedSource(given.source),
    buffer: resolveBuffer(given.buffer),
    deadlineMs: integerOption('deadlineMs', given.deadlineMs, 30_000, { min: 1 }),
    retry: resolveRetryPolicy(given.retry),
    divert,
    traceparent: functionOption('traceparent', given.traceparent) ?? null,
  })
}

/** The common part; throws an `OptionError` with the option's name, value and range. */
export function resolveCommonOptions(given: CommonOptions): ResolvedCommonOptions {
  checkMethod('broker', given.broker, 'sender', 'a broker, such as memory() or sqlite({ … })')
  return {
    broker: given.broker,
    topics: resolveTopics(given.topics),
    topology: choiceOption('topology', given.topology, 'create', ['create', 'verify', 'none']),
    breaker: resolveBreakerOptions(given.breaker),
    on: functionOption('on', given.on),
    logging: loggingOption(given.logging),
    ...injectedOptions(given),
  }
}

function resolveBuffer(given: BufferOptions = {}): Bounds {
  refuseUnknownOptions('buffer', given, ['messages', 'bytes', 'whenFull', 'waitMs'])
  return Object.freeze({
    messages: integerOption('buffer.messages', given.messages, 10_000, { min: 1 }),
    bytes: integerOption('buffer.bytes', given.bytes, 64 * MEBIBYTE, { min: 1 }),
    whenFull: choiceOption('buffer.whenFull', given.whenFull, 'wait', ['wait', 'fail']),
    waitMs: integerOption('buffer.waitMs', given.waitMs, 5_000, { min: 0 }),
  })
}

function checkedSource(source: string | undefined): string {
  if (source === undefined) return 'holdfast'
  if (typeof source === 'string' && source.length > 0) return source
  throw new OptionError('source', source, 'a text that is not empty, best a URI')
}
