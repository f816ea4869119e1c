import type { Deadline } from '../../src/contract/broker.ts'
import type {
  HoldfastError,
  OutcomeUnknownError,
  PublishRefusedError,
} from '../../src/contract/errors.ts'
import type { Headers } from '../../src/contract/message.ts'

/**
 * The seam between the adapter and a Kafka client. Partitioning, batching, order, retries, offsets and
 * dead letters are above it; below it are one client's protocol and its faults.
 */

/** A partition by its Kafka names. */
export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/** Headers of a record that was read: order, duplicates, bytes and nulls kept as far as the client tells. */
export type RecordHeaders = readonly (readonly [name: string, value: Buffer | null])[]

/** A record to be written. `value: null` is a tombstone; `timestampMs: null`: the time of writing. */
export interface KafkaRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  /** Written in this order, duplicates, bytes and nulls as they are; texts as UTF-8. */
  readonly headers: Headers
  readonly timestampMs: number | null
}

/** Records of one partition, in their order; they become one batch of the log, stored whole or not at all. */
export interface Part extends TopicPartition {
  readonly records: readonly KafkaRecord[]
}

/** The broker's word for a part. */
export type PartResult =
  /** `baseOffset`: the first record's offset, decimal; `null` when the broker said only that it has them. */
  | { readonly status: 'stored'; readonly baseOffset: string | null }
  /**
   * Certainly not written. `alone`: the fault may be one record's, so that the others would be taken
   * without it. `stale`: the fault is what was known (leaders, the producer's own number): worth another
   * try with fresh knowledge.
   */
  | {
      readonly status: 'refused'
      readonly error: PublishRefusedError
      readonly alone?: boolean
      readonly stale?: boolean
    }
  | { readonly status: 'unknown'; readonly error: OutcomeUnknownError; readonly stale?: boolean }

/** The result of the part of that index. Does not throw. */
export type Told = (index: number, result: PartResult) => void

/** What a client can keep, as data. */
export interface DriverCaps {
  readonly idempotent: boolean
  /** 'fenced': offsets of a transaction carry the consumer's generation (KIP-447). */
  readonly txn: 'none' | 'fenced' | 'unfenced'
  /** Why it is not 'fenced', and what to do. */
  readonly whyNotFenced?: string
  readonly commitMetadata: boolean
  readonly partitionPause: boolean
  readonly staticMembership: boolean
}

/** One client library, configured for one cluster. */
export interface KafkaDriver {
  readonly name: string
  readonly caps: DriverCaps
  /** A new producer; does no I/O until its first `produce`. `name` is for logs and the client id. */
  producer(name: string): DriverProducer
  /**
   * Rejects with code `missing-package` when records compressed like that could not be read here;
   * Kafka's other values of `compression.type` are fine.
   */
  checkReading(compression: string): Promise<void>
  /** Joins the group; rejects, with nothing left open, when that does not work by the deadline, or is given up. */
  consume(
    spec: GroupSpec,
    callbacks: ConsumerCallbacks,
    deadline: Deadline,
    signal?: AbortSignal,
  ): Promise<DriverConsumer>
  /** One for the driver, connected on first use and again after losses. */
  readonly admin: DriverAdmin
  /** Ends every producer, consumer and the admin that is still open. Idempotent, never rejects. */
  close(deadline: Deadline): Promise<void>
}

/** Writes parts at acks=all, idempotently where the client can. */
export interface DriverProducer {
  /**
   * One result per part, in their order; never rejects and settles by the deadline at the latest. 'stored'
   * only on an answer that names the partition with error code 0. Must not be called again before the
   * last call settled, nor when no longer `usable`. Each partition may be named once. `told` hears the
   * result of a part, at most once, as soon as it is known; those it does not hear of are in the promise
   * alone.
   */
  produce(parts: readonly Part[], deadline: Deadline, told?: Told): Promise<readonly PartResult[]>
  /**
   * false after anything that leaves the client's sequence numbers in doubt: a rejection, a partition the
   * answer does not name, the deadline; and when they are nearly used up. Then a new one has to be made.
   */
  readonly usable: boolean
  /** Bounded, never rejects. Idempotent. */
  close(): Promise<void>
}

/** A member of a consumer group. */
export interface GroupSpec {
  readonly groupId: string
  readonly topics: readonly string[]
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly heartbeatIntervalMs: number
  /** Longest wait of a fetch that finds nothing. */
  readonly maxWaitMs: number
  readonly maxBytes: number
  readonly maxBytesPerPartition: number
  /** Static membership (KIP-345); `null`: dynamic. */
  readonly instanceId: string | null
}

/** Takes headers one after the other, as they lie in the bytes. */
export interface HeaderVisitor {
  /** The value is from `from` up to `to`; `to` below `from`: it has none. */
  header(name: string, bytes: Buffer, from: number, to: number): void
}

/** A record as it was read. Its buffers are views on the fetch's answer. */
export interface FetchedRecord {
  readonly offset: bigint
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: RecordHeaders
  readonly timestampMs: number
  /** Length of key, value and headers together, or a few bytes more, where that is known. */
  readonly bytes?: number
  /** Shows all headers, where that costs less than `headers`. */
  eachHeader?(visitor: HeaderVisitor): void
  /** The same with bytes of its own. */
  detached?(): FetchedRecord
}

/** Where a partition's log begins, and the offset that its next record gets. */
export interface LogRange {
  readonly begin: bigint
  readonly end: bigint
}

/**
 * Where a driver puts what it receives; none throws. `epoch` is counted per `DriverConsumer` and grows
 * with every join; what arrives for another epoch than the last one assigned is to be ignored.
 */
export interface ConsumerCallbacks {
  /**
   * All partitions that are ours now: kept ones are named again, those not named are not ours any more.
   * A new one is not read before its first `seek`.
   */
  assigned(epoch: number, parts: readonly TopicPartition[]): void
  /** A rebalance was noticed: the moment to commit. Waited for, within the driver's own bound. */
  revoking(epoch: number): Promise<void>
  /**
   * Only where the group asks before it takes: these are to go to others, and are ours until it resolves:
   * finish, commit, forget. After the deadline they are not ours in any case.
   */
  yielding(epoch: number, parts: readonly TopicPartition[], deadline: Deadline): Promise<void>
  /** The membership is over: everything of that epoch is void. */
  lost(epoch: number): void
  /**
   * Records of a partition follow each other without a gap from its last `seek` on. `next`: where reading
   * goes on, the last offset of the batch + 1, beyond control records and compaction holes.
   */
  records(
    epoch: number,
    part: TopicPartition,
    records: readonly FetchedRecord[],
    next: bigint,
    highWatermark: bigint,
  ): void
  /** The log has nothing at the offset where reading should go on: it waits for a `seek`. */
  outOfRange(epoch: number, part: TopicPartition, asked: bigint, log: LogRange): void
  /** Partitions that could not be read for some seconds, and why; `null`: all are read again. */
  troubled(epoch: number, trouble: string | null): void
  /** This consumer will deliver nothing more (crash, silence): close it and make a new one. */
  failed(error: HoldfastError): void
}

/** An offset to be committed: the next one to be read. */
export interface CommitOffset extends TopicPartition {
  readonly offset: bigint
  readonly metadata: string | null
}

/** What is committed for a partition; `offset: null`: nothing. */
export interface CommittedOffset extends TopicPartition {
  readonly offset: bigint | null
  readonly metadata: string | null
}

/** How a transaction ended; 'unknown': only `committed` can tell, when it answers. */
export type TransactResult = 'committed' | 'aborted' | 'unknown'

/** A joined member. */
export interface DriverConsumer {
  /** Joins again for other topics. Where it is missing, a new consumer has to be made for them. */
  subscribe?(topics: readonly string[]): void
  /** Only partitions of the present epoch; forgotten with it. */
  pause(parts: readonly TopicPartition[]): void
  resume(parts: readonly TopicPartition[]): void
  /**
   * Resolves when the broker has them, and never does nothing in silence. Rejects with code `aborted` for
   * an epoch that is over, with `too-large` when the broker does not take the metadata, else with what
   * may pass.
   */
  commit(epoch: number, offsets: readonly CommitOffset[], deadline: Deadline): Promise<void>
  /** Waits for transactions of others that are open there: rejects with what passes as long as one is. */
  committed(
    parts: readonly TopicPartition[],
    deadline: Deadline,
  ): Promise<readonly CommittedOffset[]>
  /**
   * Writes, one round after the other, and commits, all of it or nothing of it; never for an epoch that is
   * over, also when that is found out by the broker alone. Never rejects. Only where `caps.txn` is 'fenced'.
   */
  transact?(
    epoch: number,
    rounds: readonly (readonly Part[])[],
    offsets: readonly CommitOffset[],
    deadline: Deadline,
  ): Promise<TransactResult>
  /** Joins again for nothing but another generation, under which what is still on its way under this one is refused. */
  renew?(): void
  /** Where reading of that partition goes on. */
  seek(part: TopicPartition, offset: bigint): void
  /** Leaves the group. Idempotent, never rejects. */
  close(deadline: Deadline): Promise<void>
}

/** A partition and the brokers that have it. `leader: null`: none at present. */
export interface PartitionInfo {
  readonly partition: number
  readonly leader: number | null
  readonly replicas: readonly number[]
  readonly isr: readonly number[]
}

/** How a topic is to be made. */
export interface NewTopic {
  readonly partitions: number
  readonly replication: number
  readonly config: Readonly<Record<string, string>>
}

/** What a broker says of itself. */
export interface BrokerDescription {
  /** Nodes of the cluster that are up. */
  readonly brokers: readonly number[]
  readonly controller: number | null
  /** Empty when this user may not look. */
  readonly config: Readonly<Record<string, string>>
}

/** An offset of a partition. */
export interface PartitionOffset {
  readonly partition: number
  readonly offset: bigint
  /** Kept beside a committed one. Default none. */
  readonly metadata?: string
}

/** The cluster's own matters. Every call ends within the driver's request timeout, by a named error if it must. */
export interface DriverAdmin {
  /** Some broker answers; asks once, and rejects by the deadline. */
  ping(deadline: Deadline): Promise<void>
  /** In order of their numbers; `null`: there is no such topic. Never makes one. */
  partitions(topic: string): Promise<readonly PartitionInfo[] | null>
  topics(): Promise<readonly string[]>
  createTopic(name: string, topic: NewTopic): Promise<'created' | 'exists'>
  /** The topic's settings as they are in force. */
  describeTopic(name: string): Promise<Readonly<Record<string, string>>>
  /** Of that broker; by default any. */
  describeBroker(nodeId?: number): Promise<BrokerDescription>
  offsets(topic: string, at: 'earliest' | 'latest'): Promise<readonly PartitionOffset[]>
  groupOffsets(groupId: string, topic: string): Promise<readonly CommittedOffset[]>
  /** Only while the group has no members: else it rejects with code `busy`. */
  setGroupOffsets(
    groupId: string,
    topic: string,
    offsets: readonly PartitionOffset[],
  ): Promise<void>
  deleteTopic(name: string): Promise<void>
  /** Records from that offset on, as many as fit `maxBytes` and are there; belongs to no group. */
  read(part: TopicPartition, from: bigint, maxBytes: number): Promise<readonly FetchedRecord[]>
}
