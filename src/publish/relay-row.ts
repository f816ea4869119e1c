import type { Deadline } from '../contract/broker.ts'
import type { HoldfastError } from '../contract/errors.ts'
import type { Lease, StoredRow } from '../contract/store.ts'
import type { Sent, Ticket } from '../send/deliver.ts'
import type { SealedEnvelope } from '../send/seal.ts'

/** Who is told what became of rows, and knows how long they may be sent. */
export interface RowOwner {
  confirmed(row: RelayRow): void
  failed(row: RelayRow, error: HoldfastError): void
  until(row: RelayRow): Deadline
}

/** A row of the outbox on its way through this relay. */
export class RelayRow implements Ticket {
  readonly stored: StoredRow
  /** What is sent: the row was due when it was read, so no broker has to wait any more. */
  readonly envelope: SealedEnvelope
  readonly topic: string
  /** The right under which it was read. */
  readonly lease: Lease
  /** resting: waits for its next try. ended: confirmed or given up, and to be taken out of the outbox. */
  state: 'sent' | 'resting' | 'ended' = 'sent'
  /** An earlier one of its key was given back: when this one fails, so is it. */
  isOrphan = false
  /** Refusals for good, of the message itself. */
  refusals = 0
  /** Other failures in a row: those of the way. */
  failures = 0
  readonly #owner: RowOwner

  constructor(stored: StoredRow, lease: Lease, owner: RowOwner) {
    const { envelope } = stored
    this.stored = stored
    this.lease = lease
    this.envelope = envelope.deliverAtMs === null ? envelope : { ...envelope, deliverAtMs: null }
    this.topic = envelope.to.kind === 'reply' ? envelope.to.address : envelope.to.topic
    this.#owner = owner
  }

  until(): Deadline {
    return this.#owner.until(this)
  }

  confirmed(_sent: Sent): void {
    this.#owner.confirmed(this)
  }

  failed(error: HoldfastError): void {
    this.#owner.failed(this, error)
  }
}
