import type { Skip, StoredRow } from '../contract/store.ts'
import type { RelayRow } from './relay-row.ts'

/** Share of the bound that one key, and one topic, may take: so that one that is stuck leaves room. */
const KEY_SHARE = 0.1
const TOPIC_SHARE = 0.5
/** Keys left out of a read, at most; beyond, nothing is read until some of them are through. */
const MOST_BLOCKED = 1_000

/**
 * The rows this relay has read and the outbox still has, and the keys that must not be read now. A row
 * is in here until it is deleted or parked, or given back to be read again.
 */
export class RelayRows {
  readonly #bound: number
  readonly #removed: () => void
  readonly #rows = new Map<number, RelayRow>()
  readonly #byKey = new Map<number, Set<RelayRow>>()
  readonly #perTopic = new Map<string, number>()
  readonly #perBucket = new Map<number, number>()
  /** Keys whose head rests, and that row. */
  readonly #blocked = new Map<number, RelayRow>()
  /** Keys of which a row was given back while a read was under way: what that read brings may lack it. */
  #stale = new Set<number>()

  /** `removed` is told whenever there is more room. */
  constructor(bound: number, removed: () => void) {
    this.#bound = bound
    this.#removed = removed
  }

  get size(): number {
    return this.#rows.size
  }

  /** How many more rows may be read. */
  get room(): number {
    return this.#blocked.size < MOST_BLOCKED ? this.#bound - this.#rows.size : 0
  }

  *[Symbol.iterator](): IterableIterator<RelayRow> {
    yield* this.#rows.values()
  }

  has(row: RelayRow): boolean {
    return this.#rows.get(row.stored.id) === row
  }

  /** Of that bucket, in here. */
  inBucket(bucket: number): number {
    return this.#perBucket.get(bucket) ?? 0
  }

  ofTopic(topic: string): number {
    return this.#perTopic.get(topic) ?? 0
  }

  /** What a read that begins now must leave out. */
  beginRead(stopped: readonly string[]): Skip {
    this.#stale = new Set()
    const full = [...this.#byKey].filter(([, rows]) => rows.size >= this.#keyBound)
    const crowded = [...this.#perTopic].filter(([, count]) => count >= this.#topicBound)
    return {
      ids: [...this.#rows.keys()],
      keyHashes: [...this.#blocked.keys(), ...full.map(([keyHash]) => keyHash)],
      topics: [...stopped, ...crowded.map(([topic]) => topic)],
    }
  }

  /** Whether a row the present read brought may be taken. One that may not bars the later ones of its key. */
  isWelcome({ id, keyHash }: StoredRow): boolean {
    if (this.#rows.has(id) || this.#rows.size >= this.#bound) return this.#bar(keyHash)
    if (keyHash === 0) return true
    if (this.#stale.has(keyHash) || this.#blocked.has(keyHash)) return false
    return (this.#byKey.get(keyHash)?.size ?? 0) < this.#keyBound || this.#bar(keyHash)
  }

  add(row: RelayRow): void {
    this.#rows.set(row.stored.id, row)
    this.#count(row, 1)
  }

  /** The outbox does not have it any more. */
  remove(row: RelayRow): void {
    if (!this.#rows.delete(row.stored.id)) return
    this.#count(row, -1)
    this.unblock(row)
    this.#removed()
  }

  /**
   * The outbox still has it, and it is to be read again, before the later ones of its key: those that
   * are in here still must not become the head of the key instead.
   */
  giveBack(row: RelayRow): void {
    const { keyHash, id } = row.stored
    this.#bar(keyHash)
    this.remove(row)
    for (const other of this.#byKey.get(keyHash) ?? []) {
      if (other.stored.id > id) other.isOrphan = true
    }
  }

  /** Whether everything before it of its key has ended, so that the key may wait for it. */
  isHead({ stored: { keyHash, id }, isOrphan }: RelayRow): boolean {
    if (isOrphan) return false
    for (const other of this.#byKey.get(keyHash) ?? []) {
      if (other.stored.id < id && other.state !== 'ended') return false
    }
    return true
  }

  /** Nothing of the row's key is read until it is unblocked. */
  block(row: RelayRow): void {
    const { keyHash } = row.stored
    if (keyHash === 0) return
    this.#blocked.set(keyHash, row)
    this.#bar(keyHash)
  }

  unblock(row: RelayRow): void {
    const { keyHash } = row.stored
    if (this.#blocked.get(keyHash) === row) this.#blocked.delete(keyHash)
  }

  #bar(keyHash: number): false {
    if (keyHash !== 0) this.#stale.add(keyHash)
    return false
  }

  get #keyBound(): number {
    return Math.max(1, Math.floor(this.#bound * KEY_SHARE))
  }

  get #topicBound(): number {
    return Math.max(1, Math.floor(this.#bound * TOPIC_SHARE))
  }

  #count(row: RelayRow, by: 1 | -1): void {
    const { keyHash, bucket } = row.stored
    if (keyHash !== 0) this.#file(keyHash, row, by)
    add(this.#perTopic, row.topic, by)
    add(this.#perBucket, bucket, by)
  }

  #file(keyHash: number, row: RelayRow, by: 1 | -1): void {
    const rows = this.#byKey.get(keyHash) ?? new Set()
    if (by === 1) rows.add(row)
    else rows.delete(row)
    if (rows.size === 0) this.#byKey.delete(keyHash)
    else this.#byKey.set(keyHash, rows)
  }
}

function add<Key>(counts: Map<Key, number>, key: Key, by: number): void {
  const count = (counts.get(key) ?? 0) + by
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
