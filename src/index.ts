// Contract: what adapters and stores implement, and what messages are.
export { topic } from './contract/topic.ts'
export type { InputOf, PayloadOf, Topic, TopicOptions } from './contract/topic.ts'
export { jsonCodec, type JsonCodecOptions } from './contract/json-codec.ts'
export type { Codec } from './contract/codec.ts'
export { headerOf, NO_HEADERS } from './contract/message.ts'
export type { Destination, Envelope, Headers, HeaderValue } from './contract/message.ts'
export { CONFIRMED } from './contract/broker.ts'
export type {
  Broker,
  BrokerContext,
  BrokerState,
  Coordinates,
  Deadline,
  Delivery,
  DeliverySink,
  Inspector,
  Receiver,
  Report,
  Sender,
  SendOutcome,
  Source,
  StoredAt,
  Subscription,
} from './contract/broker.ts'
export type { Capabilities, Ordering } from './contract/capabilities.ts'
export type {
  Finding,
  TopicSettings,
  TopicTopology,
  Topology,
  TopologyMode,
} from './contract/topology.ts'
export type {
  AttemptStore,
  ClaimResult,
  Identified,
  InboxStore,
  Lease,
  LeaseGrant,
  OutboxRow,
  OutboxStats,
  OutboxStore,
  RowRef,
  Skip,
  StoreContext,
  StoredRow,
  WorkResult,
} from './contract/store.ts'
export { sleep, systemClock, systemRandom } from './contract/clock.ts'
export type { Cancel, Clock, Random } from './contract/clock.ts'
export { noCrashes } from './contract/crash-points.ts'
export type { CrashPoint, CrashPoints } from './contract/crash-points.ts'
export type { Emit, EventType, HoldfastEvent } from './contract/events.ts'
export { UuidSource } from './contract/uuid.ts'

// Errors
export {
  BufferFullError,
  CapabilityError,
  ClosedError,
  CodecError,
  HoldfastError,
  isHoldfastError,
  OptionError,
  OutcomeUnknownError,
  PermanentError,
  PublishRefusedError,
  SchemaError,
  StorageError,
  TooLargeError,
  UnroutableError,
} from './contract/errors.ts'
export type { ErrorCode, ErrorFacts, PublishFacts } from './contract/errors.ts'

// Publish
export { ReliablePublisher } from './publish/publisher.ts'
export type { EachOptions, InsertOptions, TimeoutOptions } from './publish/publisher.ts'
export type { BufferOptions, PublisherOptions } from './publish/options.ts'
export type { BatchOutcome, Published } from './publish/published.ts'
export type { PublishOptions } from './send/seal.ts'
export { OutboxRelay } from './publish/relay.ts'
export type { RelayOptions } from './publish/relay-options.ts'

// Consume
export { ReliableConsumer } from './consume/consumer.ts'
export type {
  BatchBounds,
  BatchOptions,
  Consumed,
  ConsumerOptions,
  PayloadsOf,
  SingleOptions,
} from './consume/options.ts'
export { isOf, type Message } from './consume/message.ts'
export type { BatchContext, HandlerContext, ProduceOptions } from './consume/context.ts'
export type { BatchResult } from './consume/handle-batch.ts'
export type { Middleware } from './consume/middleware.ts'
export { deadReasons, type DeadReason } from './consume/dead-reasons.ts'

// Policies
export { constant, exponential } from './policy/backoff.ts'
export type { Backoff, ExponentialOptions } from './policy/backoff.ts'
export type { BreakerOptions, BreakerState } from './policy/circuit-breaker.ts'
export type { RetryOptions } from './policy/retry.ts'

// Observe
export type { Listener } from './observe/emitter.ts'
export type { Logging, LogSink } from './observe/logging.ts'

// Config: a file or an object to live objects
export { connect, type MessagingOf } from './config/connect.ts'
export { defineConfig, env } from './config/define.ts'
export type {
  BrokerName,
  Chosen,
  HoldfastConfig,
  StoreTransactions,
  TransactionOf,
} from './config/define.ts'
export { loadConfig } from './config/load.ts'
export { Messaging, type ClosingOptions } from './config/messaging.ts'
