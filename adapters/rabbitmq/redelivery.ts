import type { Delivery } from '../../src/contract/broker.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { headerOf, type Headers } from '../../src/contract/message.ts'
import type { ConsumeMessage } from './client.ts'
import type { Resolved } from './options.ts'

/** Failed deliveries, counted by quorum queues; from 4.3 on without those that were given back. */
const FAILED = 'x-delivery-count'
/** Deliveries of any kind before this one, counted by quorum queues from 4.3 on. */
const ACQUIRED = 'x-acquired-count'

/** Attempts made before this delivery: what our header says, and with native retries what the broker counted too. */
export function attemptsBefore(
  headers: Headers,
  message: ConsumeMessage,
  countsNatively: boolean,
): number {
  const made = headers.length === 0 ? 0 : countOf(headerOf(headers, ownHeaders.attempt))
  return countsNatively ? made + countOf(message.properties.headers?.[FAILED]) : made
}

/** How long the queue waits when this delivery is rejected: the first delay once more for each failure before, up to the last. */
export function nativeDelayOf(
  { properties }: ConsumeMessage,
  { minMs, maxMs }: NonNullable<Resolved['nativeRetry']>,
): number {
  return Math.min(minMs * (countOf(properties.headers?.[FAILED]) + 1), maxMs)
}

/**
 * Whether somebody may have handled it before. The broker's counters are on redeliveries only; a
 * classic queue has just the flag, which says that it was handed out, not that it was begun. What came
 * to the queue past its topic's exchange is a retry, a replay, or somebody else's: nobody can say.
 */
export function redeliveredOf(
  { fields, properties }: ConsumeMessage,
  attemptsMade: number,
): Delivery['redelivered'] {
  if (attemptsMade > 0) return 'yes'
  if (fields.redelivered || fields.exchange === '') return 'maybe'
  const { headers } = properties
  const isCounted = countOf(headers?.[ACQUIRED]) > 0 || countOf(headers?.[FAILED]) > 0
  return isCounted ? 'maybe' : 'no'
}

/** A count as it may be on the wire; what is none counts nothing. */
function countOf(value: unknown): number {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value > 0 ? value : 0
  return typeof value === 'string' && /^[0-9]{1,9}$/.test(value) ? Number(value) : 0
}
