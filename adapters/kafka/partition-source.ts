import type { Delivery } from '../../src/contract/broker.ts'
import type { Ordering } from '../../src/contract/capabilities.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { ownHeaders } from '../../src/contract/headers.ts'
import { headerOf, type Destination, type Headers } from '../../src/contract/message.ts'
import { KafkaDelivery, type Holder } from './delivery.ts'
import type { CommitOffset, FetchedRecord, TopicPartition } from './driver.ts'
import { waitOf } from './due.ts'
import { Headway } from './headway.ts'
import { incoming, type ReadAt, type ReadEnvelope } from './incoming.ts'
import { decodeProgress } from './offset-metadata.ts'
import { OffsetTracker, type Commit } from './offsets.ts'
import { bytesOf, RecordQueue } from './record-queue.ts'
import type { Room } from './room.ts'

/** What the partitions of one receiver share. */
export interface PartitionShare {
  readonly clock: Clock
  readonly room: Room
  readonly to: Destination
  readonly ordering: Ordering
  /** Something is to be committed; `soon`: what is handed out is near its bound. */
  readonly touched: (source: PartitionSource, soon: boolean) => void
  /** There may be something to hand over, after `waitMs`. */
  readonly ready: (source: PartitionSource, waitMs: number) => void
  /** Something was taken out of the queue. */
  readonly drained: (source: PartitionSource) => void
  /** A settle came after the partition was lost. */
  readonly stale: (source: PartitionSource) => void
}

/** One commit of a partition: what is sent, and what it says once the broker has it. */
export interface Pending extends CommitOffset {
  /** No handler gets beyond this place before the next commit. */
  readonly handedTo: number
  /** What was handed out when it was made. */
  readonly end: number
  /** Settles that there were. */
  readonly told: number
  /** Settles of those that it does not tell, at most. */
  readonly misses: number
}

/** opening: nobody knows yet where it begins. open: it is read. yielding: finished and given up. lost: not ours. */
type State = 'opening' | 'open' | 'yielding' | 'lost'

/** At this share of the room for holes nothing more is handed out, until there is that much again. */
const FULL = 0.75
const ROOM = 0.5

const ATTEMPTS = /^[0-9]{1,9}$/

/** One partition as assigned to us once, from its assignment until it is lost: what is read, handed out, done. */
export class PartitionSource implements Holder {
  readonly name: string
  readonly epoch: number
  readonly part: TopicPartition
  /** Delay of a retry topic; 0 for replays; `null`: the topic itself. */
  readonly levelMs: number | null
  readonly queue: RecordQueue = new RecordQueue()
  state: State = 'opening'
  /** After `next`: room for the first of the rest, another turn for it, or somebody else's word. */
  wants: 'room' | 'more' | 'nothing' = 'nothing'
  /** Asked for by the consumer. */
  isPaused = false
  /** Not fetched at present, since enough is there. */
  isFull = false
  readonly #share: PartitionShare
  readonly #readAt: ReadAt
  #hasBegun = false
  #tracker: OffsetTracker<KafkaDelivery> = new OffsetTracker(0n)
  /** Where reading goes on: what is before it came already. */
  #received = 0n
  /** Handlers may have had what is before this place, before it was assigned to us. */
  #begunTo = 0
  readonly #headway: Headway
  #returned: KafkaDelivery[] = []
  /** What is handed over and not settled. */
  readonly #has = { messages: 0, bytes: 0 }
  #settled = 0
  #saved = 0
  #toldOf = 0
  #committed: bigint | null = null
  #said: string | null = null
  /** No room for more holes beside the offset. */
  #isCrowded = false
  /** What was open at the last look. */
  #oldTo = 0
  #highWatermark: bigint | null = null

  constructor(share: PartitionShare, part: TopicPartition, epoch: number, levelMs: number | null) {
    const { topic, partition } = part
    this.#share = share
    this.#headway = new Headway(share.clock)
    this.part = { topic, partition }
    this.name = `${topic}/${partition}`
    this.epoch = epoch
    this.levelMs = levelMs
    this.#readAt = { ...part, to: share.to, ordering: share.ordering, name: this.name }
  }

  /** Deliveries handed over and not settled. */
  get held(): number {
    return this.#has.messages
  }

  /** Settles so far. */
  get settled(): number {
    return this.#settled
  }

  /** Settles that the broker may not know of. */
  get unsaved(): number {
    return this.#settled - this.#saved
  }

  /** Where reading goes on. */
  get position(): bigint {
    return this.#received
  }

  /** Everything handed out so far is in the list of what is open, or done. */
  offsetOf(place: number): bigint {
    return this.#tracker.start + BigInt(place)
  }

  /** Known where it begins. It is read now, and handed out when that is committed. */
  begin(offset: bigint, metadata: string | null): void {
    this.#hasBegun = true
    const progress = decodeProgress(offset, metadata)
    this.#tracker = new OffsetTracker(offset, progress)
    this.#received = offset
    this.#committed = null
    // Without our own word nobody knows what a handler may have had.
    this.#begunTo = progress === null ? Number.POSITIVE_INFINITY : progress.handedTo
    if (this.state === 'opening') this.state = 'open'
    this.#share.touched(this, true)
  }

  /** Records that were read; those that came before are passed over, as after a new start of the client. */
  received(records: readonly FetchedRecord[], next: bigint, highWatermark: bigint): void {
    if (this.#highWatermark === null) this.#boundBegun(highWatermark)
    const from = this.#received
    if (next <= from) return
    const first = records[0]
    const isNew = first === undefined || first.offset >= from
    const fresh = isNew ? records : records.filter(({ offset }) => offset >= from)
    this.queue.add(fresh, next, this.#share.clock.now())
    this.#received = next
  }

  /** There is nothing before that offset any more. */
  skipTo(offset: bigint): void {
    if (offset <= this.#received) return
    this.queue.add([], offset, this.#share.clock.now())
    this.#received = offset
    this.#share.ready(this, 0)
  }

  /** What may be handed over now, at most `most`, in order; `wants` says then what the rest waits for. */
  next(most: number): KafkaDelivery[] {
    const batch: KafkaDelivery[] = []
    this.wants = 'nothing'
    if (this.state !== 'open' || this.isPaused) return batch
    if (this.#returned.length > 0) this.#again(batch, most)
    while (this.wants === 'nothing' && !this.#isCrowded) {
      if (batch.length === most) this.wants = 'more'
      else if (!this.#advance(batch)) break
    }
    this.#share.drained(this)
    return batch
  }

  acked(delivery: KafkaDelivery): void {
    if (this.state === 'lost') return this.#share.stale(this)
    this.#giveRoom(delivery)
    this.#tracker.done(delivery)
    this.#settled++
    this.#share.touched(this, false)
  }

  /** It comes again: to us when nothing speaks against it, else to the next owner. */
  released(delivery: KafkaDelivery): void {
    if (this.state === 'lost') return this.#share.stale(this)
    this.#giveRoom(delivery)
    delivery.detach()
    this.#returned.push(delivery)
    this.#share.ready(this, 0)
  }

  /**
   * What to commit; `null`: the broker knows it. `isLast`: nothing will be handed out any more. `remembers`:
   * it takes more than an offset.
   */
  pending(isLast: boolean, remembers: boolean): Pending | null {
    if (!this.#hasBegun || this.state === 'lost') return null
    const { end } = this.#tracker
    const handedTo = isLast ? end : this.#headway.beyond(end)
    const one = remembers ? this.#tracker.encoded(handedTo) : this.#bare()
    this.#crowd(one.share)
    if (!this.#isNews(one.offset, one.text)) {
      this.#toldOf = this.#settled
      return null
    }
    const { offset, text, misses } = one
    const told = this.#settled
    return { ...this.part, offset, metadata: text, handedTo, end, told, misses }
  }

  /**
   * What to commit together with what these published; `null`: they are not, or not any more, the first that
   * are open. What of a group's offset is beyond the prefix is kept in its metadata, where there is any.
   */
  pendingAfter(done: readonly KafkaDelivery[], remembers: boolean): Pending | null {
    if (!this.#hasBegun || this.state === 'lost') return null
    let next = this.#tracker.first
    for (const delivery of done) {
      if (delivery !== next || !delivery.isHeld) return null
      next = delivery.after as KafkaDelivery | null
    }
    const { end } = this.#tracker
    const handedTo = Math.max(this.#headway.beyond(end), this.#headway.told)
    const { offset, text, misses } = this.#tracker.encoded(handedTo, done.at(-1) ?? null)
    const told = this.#settled + done.length
    const metadata = remembers ? text : null
    return { ...this.part, offset, metadata, handedTo, end, told, misses }
  }

  /** The broker has it. */
  saved({ offset, metadata, handedTo, end, told, misses }: Pending): void {
    if (this.state === 'lost') return
    this.#committed = offset
    this.#said = metadata
    this.#toldOf = told
    this.#saved = Math.max(0, told - misses)
    this.#headway.saved(end, metadata === null ? Number.POSITIVE_INFINITY : handedTo)
    this.#share.ready(this, 0)
  }

  /** The broker was told of as many settles as there were then, as far as they could be told. */
  hasTold(settled: number): boolean {
    return this.state === 'lost' || this.#toldOf >= settled
  }

  /** What was open at the last look already gets bytes of its own. */
  detachOld(): void {
    const { first, end } = this.#tracker
    for (let item = first; item !== null && item.place < this.#oldTo;) {
      item.detach()
      item = item.after as KafkaDelivery | null
    }
    this.#oldTo = end
    this.queue.detachOld()
  }

  /** No longer ours. Returns how many settles the broker may not know of. */
  lose(): number {
    const { unsaved } = this
    if (this.state === 'lost') return 0
    this.state = 'lost'
    for (let item = this.#tracker.first; item !== null;) {
      if (item.isHeld) this.#share.room.give(item.bytes)
      item = item.after as KafkaDelivery | null
    }
    this.#has.messages = this.#has.bytes = 0
    this.#returned = []
    this.queue.clear()
    return unsaved
  }

  /** Where nobody said how far handlers were, those before us may have had all that there was. */
  #boundBegun(highWatermark: bigint): void {
    this.#highWatermark = highWatermark
    if (this.#begunTo !== Number.POSITIVE_INFINITY) return
    this.#begunTo = this.#tracker.placeOf(highWatermark)
  }

  /** One record on, or behind the end of a batch. false: there is no going on at present. */
  #advance(batch: KafkaDelivery[]): boolean {
    const record = this.queue.first
    if (record === undefined) {
      const end = this.queue.passEnd()
      if (end === null) return false
      this.#tracker.pass(this.#tracker.placeOf(end))
      this.#share.touched(this, false)
      return true
    }
    const place = this.#tracker.placeOf(record.offset)
    if (this.#tracker.wasDone(place)) {
      this.queue.removeFirst()
      return true
    }
    return this.#isLet(place) && this.#isDue(record) && this.#take(record, place, batch)
  }

  /** Nobody gets a record that the broker does not know to be handed out soon. */
  #isLet(place: number): boolean {
    if (this.#headway.isShort(place)) this.#share.touched(this, true)
    return this.#headway.lets(place)
  }

  #isDue({ timestampMs }: FetchedRecord): boolean {
    if (this.levelMs === null) return true
    const waitMs = waitOf(timestampMs, this.levelMs, this.queue.firstSeenAt, this.#share.clock)
    if (waitMs > 0) this.#share.ready(this, waitMs)
    return waitMs === 0
  }

  #take(record: FetchedRecord, place: number, batch: KafkaDelivery[]): boolean {
    const bytes = bytesOf(record)
    if (!this.#share.room.take(bytes, this.#has)) {
      this.wants = 'room'
      return false
    }
    this.queue.removeFirst()
    const delivery = this.#deliveryOf(record, place, bytes)
    if (this.#tracker.take(delivery, place)) this.#hand(delivery, batch)
    else this.#share.room.give(delivery.bytes)
    return true
  }

  #deliveryOf(record: FetchedRecord, place: number, bytes: number): KafkaDelivery {
    const envelope = incoming(record, this.#readAt)
    const made = madeBefore(envelope.headers)
    return new KafkaDelivery(envelope, this, made + 1, this.#redelivered(place, made), bytes)
  }

  /** What is in a retry topic was handed out elsewhere, or is a replay. */
  #redelivered(place: number, made: number): Delivery['redelivered'] {
    if (made > 0) return 'yes'
    return this.levelMs !== null || place < this.#begunTo ? 'maybe' : 'no'
  }

  /** What was given back comes first, in its order. */
  #again(batch: KafkaDelivery[], most: number): void {
    const returned = this.#returned.sort((one, other) => one.place - other.place)
    let count = 0
    while (count < returned.length && batch.length < most) {
      const before = returned[count] as KafkaDelivery
      if (!this.#share.room.take(before.bytes, this.#has)) {
        this.wants = 'room'
        break
      }
      const envelope: ReadEnvelope = before.envelope
      const delivery = new KafkaDelivery(envelope, this, before.attempt, 'yes', before.bytes)
      delivery.isDetached = before.isDetached
      this.#tracker.replace(before, delivery)
      this.#hand(delivery, batch)
      count++
    }
    this.#returned = returned.slice(count)
  }

  #hand(delivery: KafkaDelivery, batch: KafkaDelivery[]): void {
    this.#has.messages++
    this.#has.bytes += delivery.bytes
    batch.push(delivery)
  }

  #giveRoom({ bytes }: KafkaDelivery): void {
    this.#has.messages--
    this.#has.bytes -= bytes
    this.#share.room.give(bytes)
  }

  /** Where the broker remembers nothing but an offset. */
  #bare(): Commit & { readonly text: null } {
    const { next, prefix, end, size } = this.#tracker
    return { offset: next, text: null, misses: Math.max(0, end - prefix - size), share: 0 }
  }

  /** An offset never goes back: whoever takes over would get again what was finished. */
  #isNews(offset: bigint, text: string | null): boolean {
    if (this.#committed === null || offset > this.#committed) return true
    return offset === this.#committed && text !== this.#said
  }

  #crowd(share: number): void {
    const wasCrowded = this.#isCrowded
    this.#isCrowded = share > (wasCrowded ? ROOM : FULL)
    if (wasCrowded && !this.#isCrowded) this.#share.ready(this, 0)
  }
}

/** Attempts made before, by our own header. */
function madeBefore(headers: Headers): number {
  if (headers.length === 0) return 0
  const value = headerOf(headers, ownHeaders.attempt)
  return typeof value === 'string' && ATTEMPTS.test(value) ? Number(value) : 0
}
