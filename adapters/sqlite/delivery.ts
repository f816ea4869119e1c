import type { Coordinates, Delivery } from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { SqliteFile } from './file.ts'
import type { Prepared } from './prepared.ts'
import type { BucketSource } from './source.ts'

/** Where deliveries are settled: their queue's intake. */
export interface Settler {
  readonly file: SqliteFile
  readonly queueName: string
  ack(delivery: SqliteDelivery): void
  release(delivery: SqliteDelivery): void
  retry(delivery: SqliteDelivery, delayMs: number): void
  /** A settle came after the source was lost. */
  stale(delivery: SqliteDelivery): void
  /** Deletes the row in a transaction somebody else has open, if it is still ours. */
  remove(db: Prepared, delivery: SqliteDelivery): boolean
  /** The transaction that removed the row is committed. */
  removed(delivery: SqliteDelivery): void
  /** A settle is in the file, or (`applied` false) the row was not ours any more. */
  settled(delivery: SqliteDelivery, applied: boolean): void
}

/** held: to be settled. settling: settled here, not in the file yet. done: either way, no more. */
type State = 'held' | 'settling' | 'done'

/** What a delivery is made from. */
export interface DeliveryFacts {
  readonly id: number
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
}

/** A row handed over. */
export class SqliteDelivery implements Delivery {
  readonly envelope: Envelope
  readonly source: BucketSource
  readonly id: number
  readonly attempt: number
  readonly redelivered: Delivery['redelivered']
  state: State = 'held'
  readonly #settler: Settler

  constructor(settler: Settler, source: BucketSource, envelope: Envelope, facts: DeliveryFacts) {
    this.#settler = settler
    this.source = source
    this.envelope = envelope
    this.id = facts.id
    this.attempt = facts.attempt
    this.redelivered = facts.redelivered
  }

  get at(): Coordinates {
    return `${this.#settler.queueName}#${this.id}`
  }

  get bytes(): number {
    return this.envelope.body?.length ?? 0
  }

  ack(): void {
    if (this.#settles()) this.#settler.ack(this)
  }

  release(): void {
    if (this.#settles()) this.#settler.release(this)
  }

  retry(delayMs: number): true {
    if (this.#settles()) this.#settler.retry(this, delayMs)
    return true
  }

  /** Whether a transaction on this file could settle it too. */
  canSettleIn(file: SqliteFile): boolean {
    return this.state === 'held' && this.source.state !== 'lost' && this.#settler.file === file
  }

  /** Deletes the row in that transaction; a rollback undoes it. Only after `canSettleIn`. */
  settleIn(db: Prepared): void {
    this.#settler.remove(db, this)
  }

  /** The transaction of `settleIn` is committed: a later ack() does nothing. */
  settledIn(): void {
    if (this.state !== 'held') return
    this.state = 'done'
    this.#settler.removed(this)
  }

  settled(applied: boolean): void {
    this.#settler.settled(this, applied)
  }

  #settles(): boolean {
    if (this.state !== 'held') return false
    this.state = this.source.state === 'lost' ? 'done' : 'settling'
    if (this.state === 'settling') return true
    this.#settler.stale(this)
    return false
  }
}
