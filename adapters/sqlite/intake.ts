import type { DeliverySink } from '../../src/contract/broker.ts'
import type { Ordering } from '../../src/contract/capabilities.ts'
import type { Clock } from '../../src/contract/clock.ts'
import type { Emit } from '../../src/contract/events.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { headerOf, type Destination, type Headers } from '../../src/contract/message.ts'
import { orderKeyOf } from '../../src/contract/order-key.ts'
import { queueName } from '../../src/contract/names.ts'
import { plainBytes, type EnvelopeRows } from '../sql/envelope.ts'
import { Alarm } from './alarm.ts'
import { Assignment } from './assignment.ts'
import { brokerSql, DELAY } from './broker-schema.ts'
import { claimRows, type Claim, type ClaimedRow } from './claim.ts'
import { SqliteDelivery, type Settler } from './delivery.ts'
import type { SqliteFile } from './file.ts'
import type { Prepared } from './prepared.ts'
import type { Budget, Room } from './room.ts'
import type { Settles } from './settles.ts'
import type { BucketSource } from './source.ts'

/** A queue as a receiver finds it. */
export interface Queue {
  readonly id: number
  readonly topic: string
  readonly group: string
}

/** What an intake needs. */
export interface IntakeOptions {
  readonly file: SqliteFile
  readonly clock: Clock
  readonly emit: Emit
  readonly sink: DeliverySink
  readonly rows: EnvelopeRows
  readonly room: Room
  readonly settles: Settles
  readonly owner: string
  readonly leaseMs: number
  readonly queue: Queue
  readonly ordering: Ordering
  readonly paused: () => boolean
  /** There may be something to claim. */
  ready(): void
  /** The queue is not there any more. */
  gone(queue: Queue): void
}

/**
 * One queue as one receiver reads it: rows of its buckets in id order. The cursor only saves reading
 * what is held: whenever something may lie before it (a bucket came, a delivery was released, a time
 * has come) it starts again from the first row, so that no row is ever passed for good.
 */
export class Intake implements Settler {
  readonly file: SqliteFile
  readonly queueName: string
  readonly assignment: Assignment
  readonly #options: IntakeOptions
  readonly #to: Destination
  readonly #held = new Map<number, SqliteDelivery>()
  readonly #alarm: Alarm
  readonly #stopListening: () => void
  #cursor = 0
  /** Set back since the last claim read the rows: what it found says nothing about those before. */
  #rewound = false
  #more = true
  #due = false

  constructor(options: IntakeOptions) {
    const { file, queue, clock } = options
    this.#options = options
    this.file = file
    this.queueName = queueName(queue.topic, queue.group)
    this.#to = Object.freeze({ kind: 'topic', topic: queue.topic })
    this.#alarm = new Alarm(clock, () => this.look())
    this.assignment = this.#assign()
    this.#stopListening = file.nudges.on(queue.id, (change) => {
      if (change === 'rows') this.#found()
      else this.look()
    })
    this.assignment.round()
  }

  /** Whether a claim could find something. */
  get ready(): boolean {
    return this.#more && this.#delivering().size > 0
  }

  /** Reads, without a lock, whether there is anything to do: rows, due times, buckets to take or to give. */
  look(): void {
    const { clock, queue } = this.#options
    try {
      this.#look(queue, clock.now())
    } catch {
      // Busy or failing: what writes will say so, and it is looked at again.
      this.#alarm.setBy(clock.now() + LOOK_AGAIN_MS)
    }
  }

  /** Part of a transaction. */
  claim(db: Prepared, budget: Budget): Claim | null {
    const sources = this.#delivering()
    if (!this.#more || sources.size === 0) return null
    const { queue, owner, ordering, room } = this.#options
    this.#rewound = false
    return claimRows(db, {
      queue: queue.id,
      owner,
      cursor: this.#cursor,
      due: this.#due,
      ordered: ordering === 'key',
      sources,
      held: this.#held,
      room,
      budget,
    })
  }

  /** After the COMMIT: hands over what was claimed. */
  take(claim: Claim): void {
    if (!this.#rewound) {
      this.#cursor = claim.cursor
      this.#more = !claim.exhausted
      this.#due = false
    }
    const batches = new Map<BucketSource, SqliteDelivery[]>()
    for (const row of claim.rows) this.#receive(row, batches)
    if (claim.strange) this.assignment.round()
    for (const [source, batch] of batches) {
      if (source.delivers) this.#options.sink.deliver(source, batch)
      else if (source.state !== 'lost') for (const delivery of batch) delivery.release()
    }
  }

  /** Something may lie before the cursor. */
  rewind(to = 0): void {
    this.#cursor = Math.min(this.#cursor, to)
    this.#rewound = true
    this.#found()
  }

  ack(delivery: SqliteDelivery): void {
    this.#leave(delivery)
    this.#options.settles.add(delivery, null)
  }

  release(delivery: SqliteDelivery): void {
    delivery.state = 'done'
    this.#leave(delivery)
    this.#held.delete(delivery.id)
    this.rewind(delivery.id - 1)
  }

  retry(delivery: SqliteDelivery, delayMs: number): void {
    this.#leave(delivery)
    this.#options.settles.add(delivery, Math.max(0, delayMs))
  }

  remove(db: Prepared, delivery: SqliteDelivery): boolean {
    return this.#options.settles.remove(db, delivery)
  }

  removed(delivery: SqliteDelivery): void {
    this.#leave(delivery)
    this.#held.delete(delivery.id)
    this.#options.ready()
  }

  /** The settle is in the file, unless the row was not ours any more. */
  settled(delivery: SqliteDelivery, applied: boolean): void {
    delivery.state = 'done'
    if (this.#held.get(delivery.id) === delivery) this.#held.delete(delivery.id)
    if (!applied) {
      this.stale(delivery)
      this.look()
    }
    this.#options.ready()
  }

  stale({ source }: SqliteDelivery): void {
    const { emit } = this.#options
    if (emit.wants('settle.stale')) emit({ type: 'settle.stale', source: source.name, count: 1 })
  }

  /** No more looking; leases stay until they are released. */
  stop(): void {
    this.#alarm.cancel()
    this.#stopListening()
  }

  #look(queue: Queue, now: number): void {
    const { file, owner } = this.#options
    const rows = file.reader.get(brokerSql.lookRows, this.#cursor, queue.id)
    if (rows === undefined) return this.#options.gone(queue)
    const dueInMs = rows['due_in'] as number | null
    if (dueInMs !== null && dueInMs <= 0) this.#due = true
    if (dueInMs !== null && dueInMs > 0) this.#alarm.setBy(now + dueInMs)
    const leases = file.reader.get(brokerSql.lookLeases, owner, owner, queue.id)
    const seen = leases as unknown as Parameters<Assignment['outdated']>[0]
    const freesInMs = leases?.['frees_in'] as number | null
    if (this.assignment.outdated(seen)) this.assignment.round()
    else if (freesInMs !== null && freesInMs > 0) this.#alarm.setBy(now + freesInMs + 1)
    if (rows['rows'] === 1 || this.#due) this.#found()
  }

  #found(): void {
    this.#more = true
    this.#options.ready()
  }

  #delivering(): ReadonlyMap<number, BucketSource> {
    const { sources } = this.assignment
    for (const source of sources.values()) {
      if (!source.delivers) return new Map([...sources].filter(([, one]) => one.delivers))
    }
    return sources
  }

  #receive(row: ClaimedRow, batches: Map<BucketSource, SqliteDelivery[]>): void {
    const source = this.assignment.sources.get(row.bucket)
    if (source === undefined) return
    const delivery = this.#delivery(row, source)
    this.#held.set(row.id, delivery)
    this.#options.room.took(delivery.bytes)
    source.held++
    source.handedTo = Math.max(source.handedTo, row.id)
    const batch = batches.get(source)
    if (batch === undefined) batches.set(source, [delivery])
    else batch.push(delivery)
  }

  #delivery(row: ClaimedRow, source: BucketSource): SqliteDelivery {
    const key = row.message_key === null ? null : plainBytes(row.message_key)
    const orderKey = orderKeyOf(this.#options.ordering, key, source.name)
    const envelope = this.#options.rows.envelope(row, this.#to, orderKey)
    const attempt = row.attempt + attemptsBefore(envelope.headers)
    return new SqliteDelivery(this, source, envelope, {
      id: row.id,
      attempt,
      redelivered: redelivered(row, attempt, source),
    })
  }

  #leave({ source, bytes }: SqliteDelivery): void {
    source.held--
    this.#options.room.gave(bytes)
  }

  #drop(sources: readonly BucketSource[]): void {
    const dropped = new Set(sources)
    for (const [id, delivery] of this.#held) {
      if (!dropped.has(delivery.source) || delivery.state !== 'held') continue
      this.#held.delete(id)
      this.#leave(delivery)
    }
  }

  #assign(): Assignment {
    const { file, clock, sink, owner, queue, leaseMs, settles, paused } = this.#options
    return new Assignment({
      file,
      clock,
      sink,
      owner,
      queue: queue.id,
      queueName: this.queueName,
      leaseMs,
      flush: (deadline) => settles.flush(deadline),
      gained: () => {
        this.rewind()
        this.look()
      },
      dropped: (sources) => this.#drop(sources),
      paused,
    })
  }
}

const LOOK_AGAIN_MS = 100

/** Attempts counted in our header, by a broker that does not count itself. */
function attemptsBefore(headers: Headers): number {
  if (headers.length === 0) return 0
  const made = Number(headerOf(headers, ownHeaders.attempt) ?? 0)
  return Number.isSafeInteger(made) && made > 0 ? made : 0
}

function redelivered(
  { id, delay }: ClaimedRow,
  attempt: number,
  source: BucketSource,
): SqliteDelivery['redelivered'] {
  if (attempt > 1) return 'yes'
  if (id > source.handedTo) return 'no'
  // A message sent for later has waited while others of its bucket went ahead.
  return delay === DELAY.scheduled ? 'maybe' : 'yes'
}
