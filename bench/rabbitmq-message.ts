import { isDeepStrictEqual } from 'node:util'

import type { ConsumeMessage } from 'amqplib'
import { systemClock, systemRandom, UuidSource } from 'holdfast'

import type { Order } from './payload.ts'

/** A message as it goes over the wire, written by whoever uses a client without holdfast. */
export interface PlainMessage {
  readonly routingKey: string
  readonly content: Buffer
  readonly messageId: string
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
}

/** The key by which a topic orders; `null`: it does not. */
export type KeyOf = ((order: Order) => string) | null

/** Ten thousand of them take turns. */
export const keyOfOrder = ({ order }: Order): string => order.slice(-4)

const ids = new UuidSource(systemClock, systemRandom)

/** The same headers and the same encoding that holdfast uses: JSON, UUIDv7, CloudEvents in binary mode. */
export function plainMessage(order: Order, keyOf: KeyOf): PlainMessage {
  const id = ids.next()
  const headers: Record<string, string> = {
    cloudEvents_specversion: '1.0',
    cloudEvents_id: id,
    cloudEvents_type: 'orders',
    cloudEvents_source: 'holdfast',
    cloudEvents_time: new Date().toISOString(),
  }
  const key = keyOf === null ? '' : keyOf(order)
  if (keyOf !== null) headers['cloudEvents_partitionkey'] = key
  return {
    routingKey: key,
    content: Buffer.from(JSON.stringify(order)),
    messageId: id,
    contentType: 'application/json',
    headers,
  }
}

/** Throws when two messages are not alike in all that costs something: comparing them would be a lie. */
export function checkAlike(client: string, message: ConsumeMessage, sample: ConsumeMessage): void {
  const [found, wanted] = [shapeOf(message), shapeOf(sample)]
  if (isDeepStrictEqual(found, wanted)) return
  const shown = [found, wanted].map((shape) => JSON.stringify(shape, null, 2))
  throw new Error(`${client} publishes something else than holdfast: ${shown.join(' and ')}`)
}

/** Ids and times differ from message to message, their lengths do not. What the broker adds is its own. */
function shapeOf({ content, fields, properties }: ConsumeMessage): unknown {
  const { headers = {}, messageId, ...others } = properties
  const published = Object.entries(headers).filter(([name]) => !name.startsWith('x-'))
  const lengths = published.map(([name, value]) => [name, String(value).length])
  return {
    routingKey: fields.routingKey,
    content: content.toString(),
    messageId: String(messageId).length,
    headers: Object.fromEntries(lengths),
    others,
  }
}
