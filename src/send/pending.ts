import type { Deadline, StoredAt } from '../contract/broker.ts'
import type { HoldfastError, OutcomeUnknownError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import { Watched } from '../policy/deadline-watch.ts'
import type { FlushToken } from './flush-token.ts'
import type { KeyRun } from './gate.ts'
import type { HandOver } from './hand-over.ts'
import type { Route } from './route.ts'

/** How an envelope got to where it is stored. */
export type Via = 'broker' | 'outbox'

/** What a result is made from. */
export interface Sent {
  readonly at: StoredAt | null
  /** How often the envelope was handed over. */
  readonly attempts: number
  /** An earlier attempt ended unknown, so the message may be stored more than once, with one id. */
  readonly possiblyDuplicated: boolean
  readonly via: Via
}

/**
 * Where an envelope is between being taken and its end. waiting: for room in the buffer; behind: its
 * key's predecessor; ready: goes with the next flush or is held until its way is open; delayed: until
 * its next attempt; sent: handed over, not answered.
 */
export type Stage = 'waiting' | 'behind' | 'ready' | 'delayed' | 'sent' | 'ended'

/** Who ends envelopes whose time is up. */
export interface Expirer {
  expire(pending: Pending): void
}

/** One envelope whose outcome is not known yet. Its place in the order is `seq`. */
export abstract class Pending extends Watched {
  readonly envelope: Envelope
  readonly deadline: Deadline
  readonly route: Route
  readonly seq: number
  readonly bytes: number
  readonly #expirer: Expirer
  stage: Stage = 'ready'
  /** Whoever asked has an answer already: only its place in the order is still kept. */
  told = false
  attempts = 0
  /** Why an attempt may have been stored; null as long as none may. */
  unknown: OutcomeUnknownError | null = null
  lastError: HoldfastError | null = null
  /** What it was handed over with and is not answered of; a report of any other is late. */
  handOver: HandOver | null = null
  run: KeyRun | null = null
  /** The set it rests in, so that ending can take it out. */
  shelf: Set<Pending> | null = null
  /** Of its destination's breaker, when it was handed over. */
  breakerGeneration = 0
  /** How long it waits before its next attempt. */
  delayMs = 0
  token: FlushToken | null = null
  stopListening: (() => void) | null = null

  constructor(envelope: Envelope, deadline: Deadline, route: Route, seq: number, expirer: Expirer) {
    super(deadline)
    this.envelope = envelope
    this.deadline = deadline
    this.route = route
    this.seq = seq
    this.#expirer = expirer
    this.bytes = bytesOf(envelope)
  }

  /** After this instant it must not be handed over any more; may grow. */
  get until(): Deadline {
    return Number.POSITIVE_INFINITY
  }

  /** Answers whoever asked; one of the two is called, once. Neither throws. */
  abstract confirmed(sent: Sent): void
  abstract failed(error: HoldfastError): void

  override onDue(): void {
    this.#expirer.expire(this)
  }

  /** Puts it to rest in a set until it is taken out or ends. */
  shelve(shelf: Set<Pending>): void {
    this.shelf = shelf
    shelf.add(this)
  }

  unshelve(): void {
    this.shelf?.delete(this)
    this.shelf = null
  }
}

/** What an envelope weighs in a buffer: the bytes that travel. */
function bytesOf({ body, key, headers }: Envelope): number {
  let bytes = (body?.length ?? 0) + (key?.length ?? 0)
  for (const [name, value] of headers) bytes += name.length + (value?.length ?? 0)
  return bytes
}
