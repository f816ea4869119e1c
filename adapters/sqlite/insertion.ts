import { PublishRefusedError, TooLargeError, UnroutableError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import { murmur2 } from '../../src/contract/partition.ts'
import { badId, storedBytes, type EnvelopeRows } from '../sql/envelope.ts'
import { BUCKETS } from '../sql/lease.ts'
import { brokerSql, QUEUE_KIND } from './broker-schema.ts'
import { isAboutValues } from './errors.ts'
import type { Prepared } from './prepared.ts'
import type { Change } from './nudges.ts'

/** What storing envelopes needs beside the transaction. */
export interface InsertionOptions {
  readonly rows: EnvelopeRows
  readonly maxBodyBytes: number
}

/** One envelope that is not part of the transaction. */
export interface Refusal {
  readonly index: number
  readonly error: PublishRefusedError
}

/** A batch to be stored, and what is known about it already. */
export interface Batch {
  readonly envelopes: readonly Envelope[]
  /** Keys of which an earlier envelope is not stored: later ones must not overtake it. */
  readonly unsafeKeys: ReadonlySet<string>
  /** Envelopes SQLite did not take at an earlier try, by index. */
  readonly bad: Map<number, Error>
}

/** Somewhere a message can be stored; replies have no place here. */
type Place = Exclude<Destination, { kind: 'reply' }>

// Messages without a key go round the buckets, over all batches of the process.
let spread = 0

/** Stores batches inside one transaction, in order. */
export class Insertion {
  /** Queues that got something. */
  readonly changed: Map<number, Change> = new Map<number, Change>()
  /** Keys of envelopes that were not stored. */
  readonly failedKeys: Set<string> = new Set<string>()
  readonly #db: Prepared
  readonly #options: InsertionOptions
  readonly #routes = new Map<string, readonly number[]>()

  constructor(db: Prepared, options: InsertionOptions) {
    this.#db = db
    this.#options = options
  }

  /**
   * Stores what can be stored and returns the rest, by index. An envelope SQLite does not take is
   * noted in `bad` before its error is thrown, so that the next try leaves it out.
   */
  store(batch: Batch): readonly Refusal[] {
    const refusals: Refusal[] = []
    for (const [index, envelope] of batch.envelopes.entries()) {
      const error = this.#objection(envelope, batch, index)
      if (error !== null) {
        refusals.push({ index, error })
        if (envelope.orderKey !== null) this.failedKeys.add(envelope.orderKey)
        continue
      }
      try {
        this.#insert(envelope)
      } catch (failure) {
        if (isAboutValues(failure)) batch.bad.set(index, failure as Error)
        throw failure
      }
    }
    return refusals
  }

  #objection(envelope: Envelope, batch: Batch, index: number): PublishRefusedError | null {
    const { orderKey, body, to } = envelope
    const topic = to.kind === 'reply' ? undefined : to.topic
    const facts = { messageId: envelope.id ?? undefined, topic }
    if (orderKey !== null && (this.failedKeys.has(orderKey) || batch.unsafeKeys.has(orderKey))) {
      const text = `an earlier message of key "${orderKey}" was not stored, so this one was not either`
      return new PublishRefusedError('predecessor', text, { ...facts, retryable: true })
    }
    const { maxBodyBytes } = this.#options
    if (body !== null && body.length > maxBodyBytes) {
      const text = `the body has ${body.length} bytes, maxBodyBytes is ${maxBodyBytes}: raise it, or send a reference`
      return new TooLargeError(text, facts)
    }
    const badText = badId(envelope.id)
    if (badText !== null) return new PublishRefusedError('rejected', badText, facts)
    const bad = batch.bad.get(index)
    if (bad !== undefined) {
      const text = `SQLite does not take the message: ${bad.message}`
      return new PublishRefusedError('rejected', text, { ...facts, cause: bad })
    }
    if (to.kind !== 'reply') return this.#unroutable(to, facts)
    return new PublishRefusedError('rejected', 'the SQLite broker has no replies', facts)
  }

  #unroutable(to: Place, facts: object): PublishRefusedError | null {
    if (this.#route(to).length > 0) return null
    if (to.kind !== 'topic') {
      const text = `group "${to.group}" of topic "${to.topic}" does not exist: declare it in topics.${to.topic}.groups`
      return new UnroutableError(text, facts)
    }
    // Declared with `groups: []`: nobody wants it, on purpose.
    if (this.#db.get(brokerSql.topicExists, to.topic) !== undefined) return null
    const text = `topic "${to.topic}" has no group: declare them in topics.${to.topic}.groups ([] stores nothing on purpose)`
    return new UnroutableError(text, facts)
  }

  #insert(envelope: Envelope): void {
    const { to, key, deliverAtMs, id, timeMs } = envelope
    const body = storedBytes(envelope.body)
    const keyBytes = storedBytes(key)
    const keyHash = key === null ? 0 : murmur2(key) || 1
    const bucket = (key === null ? spread++ : keyHash) % BUCKETS
    const meta = this.#options.rows.meta(envelope)
    const delayMs = to.kind === 'group' ? to.delayMs : 0
    const at = delayMs > 0 ? delayMs : deliverAtMs
    const sql =
      at === null ? brokerSql.insert : delayMs > 0 ? brokerSql.insertIn : brokerSql.insertAt
    for (const queue of this.#route(to as Place)) {
      const statement = this.#db.of(sql)
      if (at === null) statement.run(queue, bucket, keyHash, id, timeMs, keyBytes, meta, body)
      else statement.run(at, queue, bucket, keyHash, id, timeMs, keyBytes, meta, body)
      if (at === null || !this.changed.has(queue)) {
        this.changed.set(queue, at === null ? 'rows' : 'other')
      }
    }
  }

  /** Asked in the transaction itself: a group another process has just declared must miss nothing. */
  #route(to: Place): readonly number[] {
    const name = to.kind === 'topic' ? to.topic : `${to.kind}/${to.topic}/${to.group}`
    let route = this.#routes.get(name)
    if (route === undefined) {
      const found =
        to.kind === 'topic'
          ? this.#db.all(brokerSql.route, to.topic)
          : this.#db.all(brokerSql.findQueue, to.topic, to.group, QUEUE_KIND[to.kind])
      route = found.map((row) => row['id'] as number)
      this.#routes.set(name, route)
    }
    return route
  }
}
