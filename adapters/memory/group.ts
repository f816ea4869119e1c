import { partitionOf } from '../../src/contract/partition.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { deadName, queueName } from '../../src/contract/names.ts'
import { Feed, type FeedContext } from './feed.ts'
import { Membership, type MembershipContext } from './membership.ts'

/** What a group is made with. */
export interface GroupIdentity {
  readonly topic: string
  readonly name: string
  readonly partitions: number | null
  readonly startsAt: number
}

/** One group of a topic: its queues, who consumes them, its retry levels and its dead letters. */
export class Group {
  readonly topic: string
  readonly name: string
  /** Messages published to the topic before the group was declared. */
  readonly startsAt: number
  readonly feeds: readonly Feed[]
  readonly members: Membership
  /** Retry levels that exist, in milliseconds; once made they stay. */
  readonly levels: Set<number> = new Set<number>()
  readonly dead: Envelope[] = []
  /** False until somebody consumed: only then `from: 'earliest'` still means something. */
  consumed = false
  readonly #delayed = new Map<number, number>()
  #delayedInAll = 0
  #turn = 0

  constructor(identity: GroupIdentity, context: FeedContext & MembershipContext) {
    const { topic, name, partitions, startsAt } = identity
    this.topic = topic
    this.name = name
    this.startsAt = startsAt
    const queue = queueName(topic, name)
    // Checked here, so that a name too long for its dead letters fails when it is declared.
    deadName(topic, name)
    this.feeds =
      partitions === null
        ? [new Feed(queue, context)]
        : Array.from({ length: partitions }, (_, n) => new Feed(`${queue}.${n}`, context))
    this.members = new Membership(this.feeds, partitions !== null, context)
    for (const feed of this.feeds) {
      feed.onHeldTooLong = (source) => void this.members.lose((one) => one === source, false)
    }
  }

  /** The partition of a key; without one, each in turn. */
  partitionFor(key: Uint8Array | null): number {
    if (this.feeds.length === 1) return 0
    return key === null ? this.#turn++ % this.feeds.length : partitionOf(key, this.feeds.length)
  }

  append(partition: number, envelope: Envelope): void {
    const feed = this.feeds[partition] as Feed
    feed.queue.append(envelope)
    feed.wake()
  }

  /** Puts a message from before the group before everything it has; `seq` is negative. */
  putBefore(seq: number, envelope: Envelope): void {
    const feed = this.feeds[this.partitionFor(envelope.key)] as Feed
    feed.giveBack({ seq, envelope, attempt: 1, redelivered: 'no', place: -1 })
  }

  /** Counts what waits to be appended after that delay. */
  delay(delayMs: number, by: 1 | -1): void {
    this.#delayed.set(delayMs, this.delayedBy(delayMs) + by)
    this.#delayedInAll += by
  }

  delayedBy(delayMs: number): number {
    return this.#delayed.get(delayMs) ?? 0
  }

  /** The oldest `limit` messages that have a place: held ones first, then those that are ready. */
  browse(limit: number): Envelope[] {
    const all: Envelope[] = []
    for (const feed of this.feeds) all.push(...feed.browse(limit - all.length))
    return all
  }

  /** Ready, held, and waiting for a native retry. */
  get depth(): number {
    let depth = 0
    for (const feed of this.feeds) depth += feed.depth + feed.delayed
    return depth
  }

  /** Everything that waits for a level or a schedule. */
  get delayed(): number {
    return this.#delayedInAll
  }

  /** Everything stored that nobody holds. */
  get waiting(): number {
    let waiting = this.#delayedInAll
    for (const feed of this.feeds) waiting += feed.queue.ready + feed.delayed
    return waiting
  }
}
