import { isDeepStrictEqual } from 'node:util'

import { systemClock, systemRandom, UuidSource } from 'holdfast'
import type { Message } from 'kafkajs'

import type { Order } from './payload.ts'

/** The key by which a topic orders; `null`: it does not. */
export type KeyOf = ((order: Order) => string) | null

/** Ten thousand of them take turns. */
export const keyOfOrder = ({ order }: Order): string => order.slice(-4)

const ids = new UuidSource(systemClock, systemRandom)

/** The same headers and the same encoding that holdfast uses: JSON, UUIDv7, CloudEvents in binary mode. */
export function plainRecord(order: Order, keyOf: KeyOf): Message {
  return {
    key: keyOf === null ? null : keyOf(order),
    value: JSON.stringify(order),
    headers: {
      ce_specversion: '1.0',
      ce_id: ids.next(),
      ce_type: 'orders',
      ce_source: 'holdfast',
      ce_time: new Date().toISOString(),
      'content-type': 'application/json',
    },
  }
}

/** A record as kafkajs reads it. */
export type ReadRecord = Pick<Message, 'key' | 'value' | 'headers'>

/** Throws when two records are not alike in all that costs something: comparing them would be a lie. */
export function checkAlike(client: string, record: ReadRecord, sample: ReadRecord): void {
  const [found, wanted] = [shapeOf(record), shapeOf(sample)]
  if (isDeepStrictEqual(found, wanted)) return
  const shown = [found, wanted].map((shape) => JSON.stringify(shape, null, 2))
  throw new Error(`${client} publishes something else than holdfast: ${shown.join(' and ')}`)
}

/** Ids and times differ from record to record, their lengths do not. */
function shapeOf({ key, value, headers = {} }: ReadRecord): unknown {
  const lengths = Object.entries(headers).map(([name, one]) => [name, String(one).length])
  return {
    key: key === null ? null : String(key),
    value: String(value),
    headers: Object.fromEntries(lengths),
  }
}
