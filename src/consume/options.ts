import type { Broker } from '../contract/broker.ts'
import type { Ordering } from '../contract/capabilities.ts'
import type { Clock, Random } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import type { Envelope } from '../contract/message.ts'
import type { AttemptStore, InboxStore, OutboxStore } from '../contract/store.ts'
import type { PayloadOf } from '../contract/topic.ts'
import type { TopicSettings, TopologyMode } from '../contract/topology.ts'
import type { Listener } from '../observe/emitter.ts'
import type { Logging } from '../observe/logging.ts'
import type { BreakerOptions } from '../policy/circuit-breaker.ts'
import type { RetryOptions } from '../policy/retry.ts'
import type { AnyTopic } from './consumed-topic.ts'
import type { BatchContext, HandlerContext, WithTransaction } from './context.ts'
import type { BatchResult } from './handle-batch.ts'
import type { Message } from './message.ts'
import type { Middleware } from './middleware.ts'

/** One topic, or several whose payloads the handler gets as a union. */
export type Consumed = AnyTopic | readonly AnyTopic[]

/** The payload a handler of these topics gets. */
export type PayloadsOf<T extends Consumed> = T extends readonly AnyTopic[]
  ? PayloadOf<T[number]>
  : PayloadOf<T>

/** Bounds of a batch. */
export interface BatchBounds {
  /** Messages of a batch at most. */
  readonly maxMessages: number
  /** How long an incomplete batch waits for more, in milliseconds. */
  readonly maxWaitMs: number
}

/** What both kinds of consumer take. */
export interface CommonOptions<T extends Consumed, Tx> {
  readonly broker: Broker
  readonly topic: T
  readonly group: string
  /** Makes effects happen once: handlers run in its transaction. Default: none. */
  readonly inbox?: InboxStore<Tx>
  /** Where `context.publish` puts messages, in the inbox's transaction where there is one. Default: sent before the acknowledgement. */
  readonly outbox?: OutboxStore<NoInfer<Tx>>
  /** Counts starts of messages that may have killed their process. Default: the inbox's. */
  readonly attempts?: AttemptStore
  /**
   * Handlers, or transactions, at once. Default 16. While several sources (partitions, queues) deliver, one
   * of them has at most three quarters of these, so that slow handlers of one do not hold up the others.
   */
  readonly concurrency?: number
  /** Bound on what is held. Default 512 messages, 64 MiB. */
  readonly prefetch?: { readonly messages?: number; readonly bytes?: number }
  /** May only relax what the topics say. Default: what they say. */
  readonly ordering?: Ordering
  /** Where a group that is new starts. Default 'now': what is published from its declaration on. */
  readonly from?: 'now' | 'earliest'
  /** After this a handler's signal aborts and the try has failed, in milliseconds. Default 30 000. */
  readonly handlerTimeoutMs?: number
  /** Default 10 attempts, exponential from 1 s to 5 min with full jitter. */
  readonly retry?: RetryOptions
  /** What becomes of a message whose attempts are used up. Default 'dead-letter'. */
  readonly onExhausted?: 'dead-letter' | 'discard'
  /** What happens when too much waits for failed messages. Only 'stop' so far: the source pauses, order is kept. */
  readonly onLaneFull?: 'stop' | 'park'
  /** Dead-letters messages without identity. Default true with an inbox, where it means anything. */
  readonly requireId?: boolean
  /** The identity of a message, before its own id is looked at; null: it says nothing. */
  readonly identify?: (envelope: Envelope) => string | null
  /** Most messages of one inbox transaction. Default 32. */
  readonly transactionSize?: number
  /** How long an inbox transaction takes messages in, in milliseconds. Default 200. */
  readonly transactionMs?: number
  /** Stops handling while most of it fails; nothing counts as an attempt meanwhile. Default: none. */
  readonly breaker?: BreakerOptions
  /** Publishes and settles in the broker's own transaction. Default false. */
  readonly atomic?: boolean
  /** What to declare for the topics, by name. */
  readonly topics?: Readonly<Record<string, TopicSettings>>
  /** Makes what is missing, only looks, or trusts that it is there. Default 'create'. */
  readonly topology?: TopologyMode
  /** CloudEvents `source` of what handlers publish. Default 'holdfast'. */
  readonly source?: string
  readonly on?: Listener
  /** Default: warnings to stderr. */
  readonly logging?: Logging
  readonly clock?: Clock
  readonly random?: Random
  readonly crash?: CrashPoints
}

/** A consumer whose handler gets one message at a time. */
export interface SingleOptions<T extends Consumed, Tx> extends CommonOptions<T, Tx> {
  readonly handler: (
    payload: PayloadsOf<T>,
    context: WithTransaction<HandlerContext<PayloadsOf<T>>, Tx>,
  ) => unknown
  readonly middleware?: readonly Middleware<WithTransaction<HandlerContext<PayloadsOf<T>>, Tx>>[]
  readonly batch?: undefined
}

/** A consumer whose handler gets several messages at a time, in one transaction where there is an inbox. */
export interface BatchOptions<T extends Consumed, Tx> extends CommonOptions<T, Tx> {
  readonly handler: (
    messages: readonly Message<PayloadsOf<T>>[],
    context: WithTransaction<BatchContext, Tx>,
  ) => BatchResult | void | Promise<BatchResult | void>
  readonly middleware?: readonly Middleware<WithTransaction<BatchContext, Tx>>[]
  readonly batch: BatchBounds
}

/** What `new ReliableConsumer()` takes. */
export type ConsumerOptions<T extends Consumed, Tx = never> =
  SingleOptions<T, Tx> | BatchOptions<T, Tx>
