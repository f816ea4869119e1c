import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { Assignment, type Intake, type Origin } from './assignment.ts'
import { UNLIMITED } from './capabilities.ts'
import type { MemoryDelivery } from './delivery.ts'
import { HoldTimer } from './hold-timer.ts'
import { KeyHolders } from './key-holders.ts'
import { laneOf } from './lane-of.ts'
import { type Entry, Queue } from './queue.ts'
import type { Timeline } from './timeline.ts'

/** Most deliveries handed over in one call, so that nobody waits long for their turn. */
const LONGEST_BATCH = 1_024

/** What feeds need from the broker around them. */
export interface FeedContext {
  readonly capabilities: Capabilities
  /** Hands out soon. */
  wake(feed: Feed): void
  /** Something was finished or went back: those who wait for quiet look again. */
  changed(): void
  later(delayMs: number, task: () => void): void
  missesSettle(): boolean
  readonly timeline: Timeline
}

/** One queue and the receivers that share it, or the one that owns it. */
export class Feed implements Origin {
  readonly queue: Queue
  readonly capabilities: Capabilities
  readonly encodesHeaders: boolean
  readonly #context: FeedContext
  #sources: readonly Assignment[] = []
  #keys: KeyHolders | null = null
  #turn = 0
  #epoch = 0
  #delayed = 0
  /** Set while the feed waits for its turn to hand out. */
  awake = false
  /** Called when a source held a delivery for too long. */
  onHeldTooLong: (source: Assignment) => void = () => undefined

  constructor(name: string, context: FeedContext) {
    this.queue = new Queue(name)
    this.capabilities = context.capabilities
    const { duplicate, binary, null: none } = context.capabilities.headers
    this.encodesHeaders = !(duplicate && binary && none)
    this.#context = context
  }

  get sources(): readonly Assignment[] {
    return this.#sources
  }

  /** Stored and not finished, leaving out what waits for a retry. */
  get depth(): number {
    let depth = this.queue.ready + (this.#keys?.waiting ?? 0)
    for (const source of this.#sources) depth += source.unfinished
    return depth
  }

  /** Messages that wait for their retry. */
  get delayed(): number {
    return this.#delayed
  }

  /** The oldest `limit` messages with a place, held or not, in order. */
  browse(limit: number): Envelope[] {
    const held = this.#sources.flatMap((source) => source.remembered.filter((one) => one.held))
    const oldest = held.sort((a, b) => a.seq - b.seq).slice(0, limit)
    const waiting = (this.#keys?.entries ?? []).slice(0, limit - oldest.length)
    const envelopes = [...oldest, ...waiting].map(({ envelope }) => envelope)
    return [...envelopes, ...this.queue.browse(limit - envelopes.length)]
  }

  /** Asks for a turn to hand out; asking again before it does nothing. */
  wake(): void {
    if (!this.awake) this.#context.wake(this)
  }

  /** Assigns the queue to one more receiver, with an epoch of its own. */
  attach(intake: Intake): Assignment {
    const source = new Assignment(++this.#epoch, this, intake)
    this.#setSources([...this.#sources, source])
    return source
  }

  /** Takes the source away; what it had goes back to its place. */
  detach(source: Assignment): void {
    source.lose()
    this.#setSources(this.#sources.filter((one) => one !== source))
  }

  #setSources(sources: readonly Assignment[]): void {
    for (const entry of this.#keys?.clear() ?? []) this.queue.giveBack(entry)
    this.#sources = sources
    const keyed = sources.length > 1 && sources.some(({ intake }) => intake.ordering === 'key')
    this.#keys = keyed ? new KeyHolders(sources) : null
    this.wake()
  }

  /** Hands over what there is and what fits; returns how many. */
  feed(): number {
    const [only] = this.#sources
    if (only === undefined) return 0
    return this.#sources.length === 1 ? this.#feedOne(only) : this.#feedMany()
  }

  #feedOne(source: Assignment): number {
    const batch: MemoryDelivery[] = []
    while (this.queue.ready > 0 && source.canTake(this.queue.nextBytes)) {
      if (batch.length === LONGEST_BATCH) {
        this.wake()
        break
      }
      batch.push(source.takeNext())
    }
    if (batch.length > 0) source.deliver(batch)
    return batch.length
  }

  #feedMany(): number {
    const batches = new Map<Assignment, MemoryDelivery[]>()
    let count = 0
    for (; count < LONGEST_BATCH; count++) {
      if (!this.#feedNext(batches)) break
    }
    if (count === LONGEST_BATCH) this.wake()
    for (const [source, batch] of batches) source.deliver(batch)
    return count
  }

  /** Takes one message to the batch of whoever may have it; false when nothing can move. */
  #feedNext(batches: Map<Assignment, MemoryDelivery[]>): boolean {
    for (const source of this.#sources) {
      const waiting = this.#keys?.next(source)
      if (waiting !== undefined) return this.#give(waiting, source, batches)
    }
    const taken = this.queue.take()
    if (taken === undefined) return false
    const entry = this.#keys === null ? taken : laned(taken, this.queue.name)
    const holder = this.#keys?.holderOf(entry.envelope.orderKey)
    const bytes = entry.envelope.body?.length ?? 0
    const source = holder ?? this.#nextWithRoom(bytes)
    if (source === undefined || (holder !== undefined && this.#keys?.full === true)) {
      this.queue.giveBack(entry)
      return false
    }
    if (holder === undefined || holder.canTake(bytes)) return this.#give(entry, source, batches)
    this.#keys?.wait(entry, holder)
    return true
  }

  #give(entry: Entry, source: Assignment, batches: Map<Assignment, MemoryDelivery[]>): true {
    const delivery = source.take(entry)
    this.#keys?.add(delivery.envelope.orderKey, source)
    const batch = batches.get(source)
    if (batch === undefined) batches.set(source, [delivery])
    else batch.push(delivery)
    return true
  }

  /** Round robin over those that have room. */
  #nextWithRoom(bytes: number): Assignment | undefined {
    const sources = this.#sources
    for (let step = 0; step < sources.length; step++) {
      const source = sources[this.#turn++ % sources.length] as Assignment
      if (source.canTake(bytes)) return source
    }
    return undefined
  }

  forgotten(delivery: MemoryDelivery): void {
    this.#keys?.drop(delivery.envelope.orderKey)
    this.#context.changed()
  }

  giveBack(entry: Entry): void {
    this.queue.giveBack(entry)
    this.wake()
  }

  /** Back to its place after the delay: a retry keeps the order it came in. */
  giveBackLater(entry: Entry, delayMs: number): void {
    if (delayMs <= 0) return this.giveBack(entry)
    this.#delayed++
    this.#context.later(delayMs, () => {
      this.#delayed--
      this.giveBack(entry)
    })
  }

  holdTimer(source: Assignment): HoldTimer | null {
    const { maxMs } = this.capabilities.hold
    if (maxMs >= UNLIMITED) return null
    return new HoldTimer(source, this.#context.timeline, maxMs, () => this.onHeldTooLong(source))
  }

  missesSettle(): boolean {
    return this.#context.missesSettle()
  }
}

function laned(entry: Entry, source: string): Entry {
  const envelope = laneOf(entry.envelope, 'key', source)
  return envelope === entry.envelope ? entry : { ...entry, envelope }
}
