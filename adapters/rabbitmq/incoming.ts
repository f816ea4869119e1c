import type { Ordering } from '../../src/contract/capabilities.ts'
import { NO_HEADERS, type Destination, type Envelope } from '../../src/contract/message.ts'
import { orderKeyOf } from '../../src/contract/order-key.ts'
import { timeOf } from '../../src/contract/time-text.ts'
import type { ConsumeMessage } from './client.ts'
import { Native } from './native.ts'
import { attributeOf, rawAttribute, readHeaders, TOMBSTONE, type Table } from './wire-headers.ts'

/**
 * A received message as an envelope, whoever published it: CloudEvents attributes under both
 * spellings, else the AMQP properties. The body is a view on what came from the socket.
 */
export function incoming(
  message: Pick<ConsumeMessage, 'content' | 'properties'>,
  to: Destination,
  ordering: Ordering,
  sourceName: string,
): Envelope {
  const { properties, content } = message
  const table: Table | undefined = properties.headers
  const key = table === undefined ? null : keyOf(table)
  const isTombstone = table?.[TOMBSTONE] === '1' && content.length === 0
  return {
    id: (table && attributeOf(table, 'id')) ?? textOf(properties.messageId),
    type: table === undefined ? null : attributeOf(table, 'type'),
    producer: table === undefined ? null : attributeOf(table, 'source'),
    to,
    key,
    orderKey: orderKeyOf(ordering, key, sourceName),
    body: isTombstone ? null : content,
    headers: table === undefined ? NO_HEADERS : readHeaders(table),
    contentType: textOf(properties.contentType),
    timeMs: timeMsOf(table, properties.timestamp),
    deliverAtMs: null,
    native: new Native(properties),
  }
}

function keyOf(table: Table): Uint8Array | null {
  const key = rawAttribute(table, 'partitionkey')
  if (typeof key === 'string') return Buffer.from(key, 'utf8')
  return key instanceof Uint8Array ? key : null
}

/** AMQP's own timestamp counts seconds. */
function timeMsOf(table: Table | undefined, timestamp: unknown): number | null {
  const text = table === undefined ? null : attributeOf(table, 'time')
  const ms = text === null ? null : timeOf(text)
  return ms ?? (typeof timestamp === 'number' ? timestamp * 1_000 : null)
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}
