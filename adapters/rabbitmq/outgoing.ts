import { isUtf8 } from 'node:buffer'

import type { Destination, Envelope } from '../../src/contract/message.ts'
import { timeText } from '../../src/contract/time-text.ts'
import { Native } from './native.ts'
import type { Topics } from './topics.ts'
import { TOMBSTONE, writeHeaders, type Table } from './wire-headers.ts'

/** A message as amqplib writes it: the fields of `basic.publish`, its properties and its body. */
export interface Outgoing {
  readonly exchange: string
  readonly routingKey: string
  /** Always: what reaches no queue comes back instead of being dropped. */
  readonly mandatory: true
  readonly content: Buffer
  /** Properties, and all that amqplib's own `publish` takes as options. */
  readonly options: OutgoingProperties
  /** It has no other properties than content type, headers and message id. */
  readonly isPlain: boolean
}

/** Always persistent. What is `undefined` is not written. */
export interface OutgoingProperties {
  readonly mandatory: true
  readonly persistent: true
  readonly deliveryMode: 2
  readonly messageId: string | undefined
  readonly contentType: string | undefined
  readonly headers: Table
  readonly contentEncoding?: string | undefined
  readonly priority?: number | undefined
  readonly correlationId?: string | undefined
  readonly replyTo?: string | undefined
  readonly timestamp?: number | undefined
  readonly type?: string | undefined
  readonly appId?: string | undefined
}

const EMPTY = Buffer.alloc(0)
/** Longest short string of AMQP, in bytes; one character has three at most. */
const LONGEST_SHORT = 255

/**
 * Where an envelope goes and as what. Throws a `HoldfastError` for names that cannot be; what it
 * returns holds views on the envelope's bytes.
 */
export function outgoing(envelope: Envelope, topics: Topics): Outgoing {
  const { to, key, body, native } = envelope
  const isPlain = !(native instanceof Native)
  return {
    exchange: targetOf(to, topics),
    routingKey: routingKeyOf(to, key, topics),
    mandatory: true,
    content: body === null ? EMPTY : asBuffer(body),
    options: isPlain ? afresh(envelope, null) : again(envelope),
    isPlain,
  }
}

/** Where it is published to; `''` is the default exchange. */
export function targetOf(to: Destination, topics: Topics): string {
  if (to.kind === 'topic') return topics.of(to.topic).exchange
  const isDelayed = to.kind === 'group' && to.delayMs > 0
  return isDelayed ? topics.of(to.topic).retry(to.group, to.delayMs).exchange : ''
}

/**
 * Whether it can only have gone to one quorum queue of ours. Such a queue refuses a publish before it is
 * sent to any of its nodes, so its nack says that the message is stored nowhere. What goes through an
 * exchange may have reached other queues too, whoever bound them.
 */
export function goesToOneQuorumQueue(to: Destination, topics: Topics): boolean {
  if (to.kind === 'topic' || to.kind === 'reply') return false
  const plan = topics.of(to.topic)
  if (to.kind === 'dead') return plan.isQuorum(plan.dead(to.group))
  return to.delayMs === 0 && plan.queues(to.group).every((queue) => plan.isQuorum(queue))
}

/**
 * Whether that is where an envelope went. Without a key, the partition cannot be told any more: then
 * the exchange alone decides.
 */
export function mayHaveGoneTo(
  { to, key }: Envelope,
  exchange: string,
  routingKey: string,
  topics: Topics,
): boolean {
  if (targetOf(to, topics) !== exchange) return false
  return (key === null && to.kind !== 'dead') || routingKeyOf(to, key, topics) === routingKey
}

/** A delayed one too names the queue it shall return to: the level's fanout does not look at it. */
function routingKeyOf(to: Destination, key: Uint8Array | null, topics: Topics): string {
  if (to.kind === 'topic') return topics.of(to.topic).routingKey(key)
  if (to.kind === 'reply') return to.address
  const plan = topics.of(to.topic)
  return to.kind === 'dead' ? plan.dead(to.group) : plan.queueFor(to.group, key)
}

function afresh(envelope: Envelope, original: Table | null): OutgoingProperties {
  return {
    mandatory: true,
    persistent: true,
    deliveryMode: 2,
    messageId: shortOr(envelope.id),
    contentType: shortOr(envelope.contentType),
    headers: tableOf(envelope, original),
  }
}

/** The properties it came with too; never who published it, when it expires or who gets copies. */
function again(envelope: Envelope): OutgoingProperties {
  const { properties } = envelope.native as Native
  const { contentEncoding, priority, correlationId, replyTo, timestamp, type, appId } = properties
  const own = afresh(envelope, properties.headers ?? null)
  return { ...own, contentEncoding, priority, correlationId, replyTo, timestamp, type, appId }
}

function tableOf(envelope: Envelope, original: Table | null): Table {
  const { id, type, producer, timeMs, key, headers } = envelope
  const isEvent = id !== null && type !== null && producer !== null
  // Names as in `ATTRIBUTES`; one shape for all messages, since what is undefined is not encoded.
  const table: Table = {
    cloudEvents_specversion: isEvent ? '1.0' : undefined,
    cloudEvents_id: id ?? undefined,
    cloudEvents_type: type ?? undefined,
    cloudEvents_source: producer ?? undefined,
    cloudEvents_time: timeMs === null ? undefined : timeText(timeMs),
    cloudEvents_partitionkey: key === null ? undefined : textOrBytes(key),
  }
  if (envelope.body === null) table[TOMBSTONE] = '1'
  if (headers.length > 0) writeHeaders(headers, table, original)
  return table
}

function textOrBytes(bytes: Uint8Array): string | Buffer {
  const buffer = asBuffer(bytes)
  return isUtf8(buffer) ? buffer.toString('utf8') : buffer
}

/** What is too long for the property is left out: the attribute beside it has it. */
function shortOr(text: string | null): string | undefined {
  if (text === null) return undefined
  const fits = text.length * 3 <= LONGEST_SHORT || Buffer.byteLength(text) <= LONGEST_SHORT
  return fits ? text : undefined
}

function asBuffer(bytes: Uint8Array): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
