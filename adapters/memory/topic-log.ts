import type { SendOutcome } from '../../src/contract/broker.ts'
import { CONFIRMED } from '../../src/contract/broker.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { FeedContext } from './feed.ts'
import { Group } from './group.ts'
import type { MembershipContext } from './membership.ts'
import { PublishedLog } from './published.ts'
import { Ring } from './ring.ts'

/** Bounds of what a topic keeps for looking back. */
export interface Keeping {
  /** Messages kept for groups that start at 'earliest'; 0 without history. */
  readonly history: number
  readonly published: number
}

/** One topic: its groups and what was published to it. */
export class TopicLog {
  readonly name: string
  readonly partitions: number | null
  readonly published: PublishedLog
  /** Declared with no groups: to store nothing is what was asked for. */
  storesNothing = false
  deleted = false
  readonly #context: FeedContext & MembershipContext
  readonly #history: Ring<Envelope> | null
  readonly #keptHistory: number
  readonly #offsets: number[]
  #groups: readonly Group[] = []

  constructor(
    name: string,
    partitions: number | null,
    keeping: Keeping,
    context: FeedContext & MembershipContext,
  ) {
    this.name = name
    this.partitions = partitions
    this.published = new PublishedLog(name, keeping.published)
    this.#history = keeping.history > 0 ? new Ring() : null
    this.#keptHistory = keeping.history
    this.#offsets = new Array<number>(partitions ?? 1).fill(0)
    this.#context = context
  }

  get groups(): readonly Group[] {
    return this.#groups
  }

  group(name: string): Group | undefined {
    return this.#groups.find((group) => group.name === name)
  }

  addGroup(name: string): Group {
    const startsAt = this.published.count
    const group = new Group(
      { topic: this.name, name, partitions: this.partitions, startsAt },
      this.#context,
    )
    this.#groups = [...this.#groups, group]
    this.storesNothing = false
    return group
  }

  removeGroup(group: Group): void {
    this.#groups = this.#groups.filter((one) => one !== group)
  }

  /** False when the group lacks messages from before it was declared, and none of them was kept. */
  canReplayInto(group: Group): boolean {
    return group.startsAt === 0 || this.#history !== null
  }

  /** Puts what was kept from before the group was declared before its own messages. */
  replayInto(group: Group): void {
    const kept = this.#history?.first(this.#history.size) ?? []
    const oldest = this.published.count - kept.length
    for (const [index, envelope] of kept.entries()) {
      const seq = oldest + index - group.startsAt
      if (seq < 0) group.putBefore(seq, envelope)
    }
  }

  /** Keeps the message for looking back: as it was sent, and as it is stored. */
  record(envelope: Envelope, wire: Envelope): void {
    this.published.add(envelope)
    if (this.#history === null) return
    this.#history.push(wire)
    if (this.#history.size > this.#keptHistory) this.#history.shift()
  }

  /** Puts the message into each of these groups. */
  append(envelope: Envelope, groups: readonly Group[]): SendOutcome {
    if (this.partitions === null) {
      for (const group of groups) group.append(0, envelope)
      return CONFIRMED
    }
    const partition = (groups[0] as Group).partitionFor(envelope.key)
    for (const group of groups) group.append(partition, envelope)
    const offset = this.#offsets[partition] as number
    this.#offsets[partition] = offset + 1
    return { status: 'confirmed', at: { partition, offset: String(offset) } }
  }
}
