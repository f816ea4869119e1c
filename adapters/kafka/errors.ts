import {
  OutcomeUnknownError,
  PublishRefusedError,
  TooLargeError,
  UnroutableError,
  type ErrorCode,
} from '../../src/contract/errors.ts'
import type { PartResult, TopicPartition } from './driver.ts'

/**
 * What an error code of a Produce answer says about the records of that partition.
 *
 * - stored: they are in the log; `DUPLICATE_SEQUENCE_NUMBER` says so in its own way.
 * - doubtful: they may be in the log, and the same batch under the same numbers finds out: the broker
 *   knows it again. A leader that lost its office while it waited for its replicas answers like one
 *   that never was leader, so these codes are no proof that nothing was written.
 * - unknown: they may be in the log, and asking again does not help.
 * - refused: checked before anything is written.
 */
export type Verdict =
  | { readonly kind: 'stored' }
  | { readonly kind: 'doubtful'; readonly name: string; readonly staleLeader: boolean }
  | { readonly kind: 'unknown'; readonly name: string }
  | {
      readonly kind: 'refused'
      readonly name: string
      readonly advice: string
      readonly code: ErrorCode
      readonly retryable: boolean
      /** One record may be to blame for all. */
      readonly alone: boolean
      /** Helped by a new producer or fresh metadata, at once. */
      readonly stale: boolean
    }

const REFUSED = { retryable: false, alone: false, stale: false }

/** By the code of Kafka's protocol. What is not listed is unknown. */
const verdicts: ReadonlyMap<number, Verdict> = new Map<number, Verdict>([
  [0, { kind: 'stored' }],
  [2, refused('CORRUPT_MESSAGE', 'unavailable', 'damaged on its way', { retryable: true })],
  [3, doubtful('UNKNOWN_TOPIC_OR_PARTITION', true)],
  [5, refused('LEADER_NOT_AVAILABLE', 'unavailable', 'a leader is being elected', { stale: true })],
  [6, doubtful('NOT_LEADER_OR_FOLLOWER', true)],
  [7, doubtful('REQUEST_TIMED_OUT', false)],
  [8, doubtful('BROKER_NOT_AVAILABLE', true)],
  [9, doubtful('REPLICA_NOT_AVAILABLE', true)],
  [
    10,
    tooLarge('MESSAGE_TOO_LARGE', "raise the topic's max.message.bytes, or send less at a time"),
  ],
  [13, doubtful('NETWORK_EXCEPTION', true)],
  [17, refused('INVALID_TOPIC_EXCEPTION', 'unroutable', 'the topic cannot be written to')],
  [
    18,
    tooLarge('RECORD_LIST_TOO_LARGE', "raise the topic's segment.bytes, or send less at a time"),
  ],
  [
    19,
    refused('NOT_ENOUGH_REPLICAS', 'unavailable', 'fewer replicas in sync than the topic demands', {
      retryable: true,
    }),
  ],
  [20, doubtful('NOT_ENOUGH_REPLICAS_AFTER_APPEND', false)],
  [21, refused('INVALID_REQUIRED_ACKS', 'rejected', 'the broker does not take acks=all')],
  [29, refused('TOPIC_AUTHORIZATION_FAILED', 'rejected', 'allow WRITE on the topic to this user')],
  [31, refused('CLUSTER_AUTHORIZATION_FAILED', 'rejected', 'allow IDEMPOTENT_WRITE to this user')],
  [32, refused('INVALID_TIMESTAMP', 'rejected', 'look at message.timestamp.*', { alone: true })],
  [35, refused('UNSUPPORTED_VERSION', 'rejected', 'the broker is too old: 0.11 or later')],
  [42, refused('INVALID_REQUEST', 'rejected', 'the broker did not understand the request')],
  [43, refused('UNSUPPORTED_FOR_MESSAGE_FORMAT', 'rejected', 'look at message.format.version')],
  [
    44,
    refused('POLICY_VIOLATION', 'rejected', 'a policy of the cluster forbids it', { alone: true }),
  ],
  [45, anew('OUT_OF_ORDER_SEQUENCE_NUMBER')],
  [46, { kind: 'stored' }],
  [47, anew('INVALID_PRODUCER_EPOCH')],
  [49, anew('INVALID_PRODUCER_ID_MAPPING')],
  [
    55,
    refused('OPERATION_NOT_ATTEMPTED', 'unavailable', 'another partition was in its way', {
      stale: true,
    }),
  ],
  [56, doubtful('KAFKA_STORAGE_ERROR', true)],
  [59, anew('UNKNOWN_PRODUCER_ID')],
  [72, doubtful('LISTENER_NOT_FOUND', true)],
  [74, doubtful('FENCED_LEADER_EPOCH', true)],
  [75, doubtful('UNKNOWN_LEADER_EPOCH', true)],
  [76, refused('UNSUPPORTED_COMPRESSION_TYPE', 'rejected', 'choose another compression')],
  [
    87,
    refused('INVALID_RECORD', 'rejected', 'a compacted topic takes only messages with a key', {
      alone: true,
    }),
  ],
  [89, refused('THROTTLING_QUOTA_EXCEEDED', 'unavailable', 'over the quota', { retryable: true })],
  [90, anew('PRODUCER_FENCED')],
])

/** What the code of a Produce answer means. */
export function verdictOf(code: number): Verdict {
  return verdicts.get(code) ?? { kind: 'unknown', name: `error ${code}` }
}

/** The refusal of a part by the broker's word. */
export function refusedBy(
  verdict: Extract<Verdict, { kind: 'refused' }>,
  { topic, partition }: TopicPartition,
): PartResult {
  const { name, advice, code, retryable, alone, stale } = verdict
  const text = `Kafka refused it for ${topic}/${partition}: ${name}: ${advice}`
  const facts = { topic, retryable: retryable || stale }
  const error =
    code === 'too-large'
      ? new TooLargeError(text, facts)
      : code === 'unroutable'
        ? new UnroutableError(text, facts)
        : new PublishRefusedError(code, text, facts)
  return { status: 'refused', error, alone, stale }
}

/** No request with it ever left this process. */
export function notWritten({ topic }: { readonly topic: string }, cause: unknown): PartResult {
  const why = cause instanceof Error ? cause.message : String(cause)
  const text = `the message was not sent: no connection to the leader: ${why}`
  const error = new PublishRefusedError('not-sent', text, { topic, retryable: true, cause })
  return { status: 'refused', error, stale: true }
}

/** It cannot be made a batch of, so nothing was written; one record may be to blame. */
export function notARecord({ topic }: { readonly topic: string }, cause: unknown): PartResult {
  const why = cause instanceof Error ? cause.message : String(cause)
  const text = `the message cannot be written as a record: ${why}`
  const error = new PublishRefusedError('rejected', text, { topic, cause })
  return { status: 'refused', error, alone: true }
}

/** The broker knows no such topic. */
export function noSuchTopic(topic: string): UnroutableError {
  const text = `Kafka has no topic "${topic}": declare it with its groups, or let topology: 'create' make it`
  return new UnroutableError(text, { topic })
}

/** Written, and what became of it is not known. */
export function notKnown(
  code: Extract<ErrorCode, 'timeout' | 'connection-lost' | 'unanswered'>,
  { topic, partition }: TopicPartition,
  why: string,
  cause?: unknown,
): PartResult {
  const text = `written to ${topic}/${partition}, and not known whether it is stored: ${why}`
  return { status: 'unknown', error: new OutcomeUnknownError(code, text, { topic, cause }) }
}

function refused(
  name: string,
  code: ErrorCode,
  advice: string,
  more: Partial<typeof REFUSED> = {},
): Verdict {
  return { kind: 'refused', name, code, advice, ...REFUSED, ...more }
}

function tooLarge(name: string, advice: string): Verdict {
  return refused(name, 'too-large', advice, { alone: true })
}

/** The broker lost or fenced the producer's number: another one may go on. */
function anew(name: string): Verdict {
  return refused(name, 'unavailable', 'the broker does not go on with this producer', {
    stale: true,
  })
}

function doubtful(name: string, staleLeader: boolean): Verdict {
  return { kind: 'doubtful', name, staleLeader }
}
