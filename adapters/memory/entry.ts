import { ownHeaders } from '../../src/contract/headers.ts'
import { headerOf, type Envelope } from '../../src/contract/message.ts'
import type { Placed } from './heap.ts'

/** A message that was taken out of its queue, or given back to it, with its place there. */
export interface Entry extends Placed {
  /** Dense, in the order in which messages arrived. */
  readonly seq: number
  readonly envelope: Envelope
  readonly attempt: number
  readonly redelivered: 'no' | 'maybe' | 'yes'
}

/** What the broker puts on messages sent to one group: they may have been handled before. */
export const SENT_TO_GROUP: unique symbol = Symbol('sent to a group')

/** 1-based number of the attempt that a message not handed over yet begins. */
export function firstAttempt(envelope: Envelope): number {
  return envelope.headers.length === 0 ? 1 : attemptsMade(envelope) + 1
}

/** Whether a message not handed over here may have been handled before, elsewhere. */
export function handledBefore(envelope: Envelope, attempt: number): 'no' | 'maybe' | 'yes' {
  if (attempt > 1) return 'yes'
  return envelope.native === SENT_TO_GROUP ? 'maybe' : 'no'
}

/** Attempts that our header says were made; a header that is no count says nothing. */
function attemptsMade({ headers }: Envelope): number {
  const value = headerOf(headers, ownHeaders.attempt)
  return typeof value === 'string' && /^[0-9]{1,9}$/.test(value) ? Number(value) : 0
}
