import { ownHeaders } from '../../src/contract/headers.ts'
import { headerOf, type Envelope } from '../../src/contract/message.ts'
import { Heap, type Placed } from './heap.ts'
import { Ring } from './ring.ts'

/**
 * What waits for one group in one partition, in order. A message given back returns to its place;
 * what was never handed over costs one slot of an array.
 */
export class Queue {
  readonly name: string
  readonly #fresh = new Ring<Envelope>()
  /** Place of the oldest fresh message. */
  #freshSeq = 0
  readonly #returned = new Heap<Entry>((a, b) => a.seq < b.seq)

  constructor(name: string) {
    this.name = name
  }

  /** Messages that could be handed over now. */
  get ready(): number {
    return this.#fresh.size + this.#returned.size
  }

  append(envelope: Envelope): void {
    this.#fresh.push(envelope)
  }

  giveBack(entry: Entry): void {
    this.#returned.push(entry)
  }

  /** The body's size of the next message; 0 when there is none. */
  get nextBytes(): number {
    const next = this.#returned.peek()?.envelope ?? this.#fresh.peek()
    return next?.body?.length ?? 0
  }

  /** The oldest message that was given back; it comes before everything fresh. */
  takeReturned(): Entry | undefined {
    return this.#returned.size === 0 ? undefined : this.#returned.pop()
  }

  /** The oldest message never handed over; its place is the `freshSeq` read before. */
  takeFresh(): Envelope | undefined {
    const envelope = this.#fresh.shift()
    if (envelope !== undefined) this.#freshSeq++
    return envelope
  }

  get freshSeq(): number {
    return this.#freshSeq
  }

  /** The oldest message, whichever it is. */
  take(): Entry | undefined {
    const back = this.takeReturned()
    if (back !== undefined) return back
    const seq = this.#freshSeq
    const envelope = this.takeFresh()
    if (envelope === undefined) return undefined
    const attempt = firstAttempt(envelope)
    return { seq, envelope, attempt, redelivered: handledBefore(envelope, attempt), place: -1 }
  }

  /** The oldest `limit` messages, left where they are. */
  browse(limit: number): Envelope[] {
    const returned = [...this.#returned.items].sort((a, b) => a.seq - b.seq)
    const envelopes = returned.slice(0, limit).map((entry) => entry.envelope)
    return [...envelopes, ...this.#fresh.first(limit - envelopes.length)]
  }
}

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
