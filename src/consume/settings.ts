import type { Broker } from '../contract/broker.ts'
import type { Capabilities, Ordering } from '../contract/capabilities.ts'
import type { Clock, Random } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import { CapabilityError, OptionError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import { injectedOptions } from '../contract/injected.ts'
import { checkedGroupName } from '../contract/names.ts'
import {
  checkMethod,
  checkObject,
  choiceOption,
  functionOption,
  integerOption,
  listOption,
  refuseUnknownOptions,
} from '../contract/option.ts'
import type { AttemptStore, InboxStore, OutboxStore } from '../contract/store.ts'
import type { TopicSettings, TopicTopology } from '../contract/topology.ts'
import { loggingOption } from '../observe/logging.ts'
import { exponential } from '../policy/backoff.ts'
import { type BreakerOptions, resolveBreakerOptions } from '../policy/circuit-breaker.ts'
import { type RetryPolicy, resolveRetryPolicy } from '../policy/retry.ts'
import type { ConsumedTopic } from './consumed-topic.ts'
import { othersOf, settingsOf, strongest, topicsOf, topologyOf } from './topics-of.ts'
import { type Call, type Middleware, compose } from './middleware.ts'
import type { BatchBounds, CommonOptions, Consumed } from './options.ts'

/** The options with every default filled in; frozen. */
export interface Settings {
  readonly broker: Broker
  readonly group: string
  readonly topics: ReadonlyMap<string, ConsumedTopic>
  readonly topology: readonly TopicTopology[]
  /** What was said about topics that are not consumed here: where handlers publish to. */
  readonly others: Readonly<Record<string, TopicSettings>>
  readonly provision: 'create' | 'verify' | 'none'
  /** The strongest of the topics'. */
  readonly ordering: Ordering
  readonly from: 'now' | 'earliest'
  readonly inbox: InboxStore<unknown> | null
  readonly outbox: OutboxStore<unknown> | null
  readonly attempts: AttemptStore | null
  readonly concurrency: number
  readonly prefetch: { readonly messages: number; readonly bytes: number }
  readonly handlerTimeoutMs: number
  readonly retry: RetryPolicy
  readonly onExhausted: 'dead-letter' | 'discard'
  readonly requireId: boolean
  readonly identify: ((envelope: Envelope) => string | null) | null
  readonly transactionSize: number
  readonly transactionMs: number
  readonly batch: BatchBounds | null
  readonly breaker: BreakerOptions | null
  readonly atomic: boolean
  readonly source: string
  /** The handler with its middleware. */
  readonly call: Call<never>
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
}

/** What is resolved: the options of either kind of consumer. */
export interface GivenOptions extends CommonOptions<Consumed, never> {
  readonly handler: Call<never>
  readonly middleware?: readonly Middleware<never>[]
  readonly batch?: BatchBounds | undefined
}

const optionNames: readonly (keyof GivenOptions)[] = [
  'broker',
  'topic',
  'group',
  'handler',
  'inbox',
  'outbox',
  'attempts',
  'concurrency',
  'prefetch',
  'ordering',
  'from',
  'handlerTimeoutMs',
  'retry',
  'onExhausted',
  'onLaneFull',
  'requireId',
  'identify',
  'middleware',
  'batch',
  'transactionSize',
  'transactionMs',
  'breaker',
  'atomic',
  'topics',
  'topology',
  'source',
  'on',
  'logging',
  'clock',
  'random',
  'crash',
]

const defaultBackoff = exponential({ initialMs: 1_000, maxMs: 300_000 })
const LONGEST_SOURCE = 255

/** Fills in defaults; throws an `OptionError` with name, value and range, or a `CapabilityError`. Does no I/O. */
export function resolveOptions(given: GivenOptions): Settings {
  refuseUnknownOptions('consumer', given, optionNames)
  const group = checkedGroupName(given.group)
  checkStores(given)
  const declared = settingsOf(given)
  const topics = topicsOf(given, group)
  const prefetch = prefetchOf(given)
  refuseConflicts(given)
  return Object.freeze({
    broker: given.broker,
    group,
    topics,
    topology: topologyOf(topics, declared, group),
    others: othersOf(topics, declared),
    provision: choiceOption('topology', given.topology, 'create', ['create', 'verify', 'none']),
    ordering: strongest(topics),
    from: choiceOption('from', given.from, 'now', ['now', 'earliest']),
    inbox: (given.inbox as InboxStore<unknown> | undefined) ?? null,
    outbox: given.outbox ?? null,
    attempts: given.attempts ?? given.inbox?.attempts ?? null,
    concurrency: integerOption('concurrency', given.concurrency, 16, { min: 1, max: 10_000 }),
    prefetch,
    handlerTimeoutMs: integerOption('handlerTimeoutMs', given.handlerTimeoutMs, 30_000, { min: 1 }),
    retry: retryOf(given),
    onExhausted: choiceOption('onExhausted', given.onExhausted, 'dead-letter', [
      'dead-letter',
      'discard',
    ]),
    requireId: flag('requireId', given.requireId, given.inbox !== undefined),
    identify: functionOption('identify', given.identify) ?? null,
    transactionSize: integerOption(
      'transactionSize',
      given.transactionSize,
      Math.min(32, prefetch.messages),
      { min: 1, max: prefetch.messages },
    ),
    transactionMs: integerOption('transactionMs', given.transactionMs, 200, { min: 0 }),
    batch: batchOf(given, prefetch.messages),
    breaker: given.breaker === undefined ? null : resolveBreakerOptions(given.breaker),
    atomic: flag('atomic', given.atomic, false),
    source: sourceOf(given.source),
    call: callOf(given),
    ...injectedOptions(given),
  })
}

/** Throws one `CapabilityError` that lists everything asked for that this broker does not keep. */
export function checkCapabilities(settings: Settings, offered: Capabilities): void {
  const { broker, ordering, atomic, topics } = settings
  const refused: string[] = []
  if (!offered.ordering.includes(ordering)) {
    const allowed = offered.ordering.map((one) => `'${one}'`).join(', ')
    refused.push(`ordering '${ordering}' (it offers ${allowed}; a consumer may relax the topic's)`)
  }
  if (atomic && offered.atomicPublish === 'none') {
    const why = offered.whyNotAtomic ?? 'it has no transactions'
    refused.push(`atomic (${why}; give the consumer an inbox and an outbox)`)
  }
  if (refused.length === 0) return
  const names = [...topics.keys()].join(', ')
  throw new CapabilityError(
    `the broker ${broker.name} does not offer what the consumer of ${names} asks for: ${refused.join('; ')}`,
  )
}

function refuseConflicts(given: GivenOptions): void {
  const { broker, inbox, outbox, onLaneFull, atomic, batch } = given
  if (typeof broker?.receive !== 'function') {
    throw new OptionError('broker', broker, 'a broker, such as sqlite({ file }) or memory()')
  }
  if (choiceOption('onLaneFull', onLaneFull, 'stop', ['stop', 'park']) === 'park') {
    throw new CapabilityError(
      "onLaneFull: 'park' needs a parking store, which is not there yet; use 'stop', which pauses the source and keeps the order",
    )
  }
  if (atomic === true && batch !== undefined) {
    throw new CapabilityError('atomic: works for handlers of single messages; leave batch out')
  }
  if (atomic === true && (inbox !== undefined || outbox !== undefined)) {
    throw new CapabilityError(
      "atomic: the broker's transaction cannot include an inbox's or an outbox's; use either atomic, or inbox and outbox",
    )
  }
}

function checkStores({ inbox, outbox, attempts, on, logging }: GivenOptions): void {
  if (inbox !== undefined) checkMethod('inbox', inbox, 'run', 'an inbox store')
  if (outbox !== undefined) checkMethod('outbox', outbox, 'append', 'an outbox store')
  if (attempts !== undefined) checkMethod('attempts', attempts, 'started', 'an attempt store')
  functionOption('on', on)
  loggingOption(logging)
}

function retryOf({ retry = {} }: GivenOptions): RetryPolicy {
  checkObject('retry', retry)
  return resolveRetryPolicy({ backoff: defaultBackoff, ...retry }, 10)
}

function prefetchOf({ prefetch = {} }: GivenOptions): Settings['prefetch'] {
  refuseUnknownOptions('prefetch', prefetch, ['messages', 'bytes'])
  return Object.freeze({
    messages: integerOption('prefetch.messages', prefetch.messages, 512, { min: 1 }),
    bytes: integerOption('prefetch.bytes', prefetch.bytes, 67_108_864, { min: 1 }),
  })
}

function batchOf({ batch }: GivenOptions, held: number): BatchBounds | null {
  if (batch === undefined) return null
  refuseUnknownOptions('batch', batch, ['maxMessages', 'maxWaitMs'])
  return Object.freeze({
    maxMessages: integerOption('batch.maxMessages', batch.maxMessages, 100, { min: 1, max: held }),
    maxWaitMs: integerOption('batch.maxWaitMs', batch.maxWaitMs, 100, { min: 0 }),
  })
}

function sourceOf(source: string | undefined): string {
  if (source === undefined) return 'holdfast'
  if (typeof source === 'string' && source.length > 0 && source.length <= LONGEST_SOURCE) {
    return source
  }
  throw new OptionError('source', source, `a text of 1 to ${LONGEST_SOURCE} characters`)
}

function callOf({ handler, middleware }: GivenOptions): Call<never> {
  if (typeof handler !== 'function') throw new OptionError('handler', handler, 'a function')
  const around = listOption('middleware', middleware)
  for (const [index, one] of around.entries()) functionOption(`middleware[${index}]`, one)
  return compose(around, handler)
}

function flag(name: string, value: boolean | undefined, fallback: boolean): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? fallback
  throw new OptionError(name, value, 'true, false')
}
