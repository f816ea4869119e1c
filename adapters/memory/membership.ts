import type { Deadline } from '../../src/contract/broker.ts'
import type { Assignment, Intake } from './assignment.ts'
import type { Feed } from './feed.ts'

/** What sharing out sources needs from the broker around it. */
export interface MembershipContext {
  /** Until when a holder may finish if its source is taken now. */
  rebalanceDeadline(): Deadline
}

/**
 * Who of a group consumes which of its queues. A partition, or a queue consumed in partition order,
 * has one owner; any other queue is shared by all members.
 */
export class Membership {
  readonly #feeds: readonly Feed[]
  readonly #partitioned: boolean
  readonly #context: MembershipContext
  #members: readonly Intake[] = []
  /** Queues kept from everybody until they are given back: a fault asked for by a test. */
  readonly #withheld = new Set<Feed>()

  constructor(feeds: readonly Feed[], partitioned: boolean, context: MembershipContext) {
    this.#feeds = feeds
    this.#partitioned = partitioned
    this.#context = context
  }

  get all(): readonly Intake[] {
    return this.#members
  }

  join(receiver: Intake): void {
    if (this.#members.includes(receiver)) return
    this.#members = [...this.#members, receiver]
    this.#balance()
  }

  /** At once: what the receiver had is lost to it. Returns its sources. */
  leave(receiver: Intake): Assignment[] {
    this.#members = this.#members.filter((one) => one !== receiver)
    const left = this.#end((source) => source.intake === receiver)
    this.#balance()
    return left
  }

  /** Takes these sources away, without a warning; their receivers hear of it and get new ones. */
  lose(which: (source: Assignment) => boolean, withhold: boolean): number {
    const lost: Assignment[] = []
    for (const feed of this.#feeds) {
      const here = feed.sources.filter(which)
      if (withhold && here.length > 0) this.#withheld.add(feed)
      for (const source of here) feed.detach(source)
      lost.push(...here)
    }
    this.#tell(lost)
    this.#balance()
    return lost.length
  }

  /** Ends the withholding of `lose`. */
  regain(): void {
    this.#withheld.clear()
    this.#balance()
  }

  /** Takes these sources away in order: their receivers may finish first. */
  async revoke(which: (source: Assignment) => boolean): Promise<number> {
    const sources = this.#feeds.flatMap((feed) => feed.sources).filter(which)
    await this.#revoke(sources.filter((source) => source.state === 'active'))
    return sources.length
  }

  #balance(): void {
    const surplus = this.#feeds.flatMap((feed, index) => this.#share(feed, index))
    if (surplus.length > 0) void this.#revoke(surplus)
  }

  /** Gives one queue to those who should have it; returns the sources that have to go first. */
  #share(feed: Feed, index: number): Assignment[] {
    const wanted = this.#wanted(feed, index)
    const surplus = feed.sources.filter(({ intake }) => !wanted.includes(intake))
    if (surplus.length > 0) return surplus.filter((source) => source.state === 'active')
    for (const receiver of wanted) {
      if (feed.sources.every(({ intake }) => intake !== receiver)) feed.attach(receiver)
    }
    return []
  }

  #wanted(feed: Feed, index: number): readonly Intake[] {
    if (this.#withheld.has(feed)) return []
    const owned =
      this.#partitioned || this.#members.some(({ ordering }) => ordering === 'partition')
    return owned ? this.#members.slice(index % this.#members.length).slice(0, 1) : this.#members
  }

  async #revoke(sources: readonly Assignment[]): Promise<void> {
    for (const source of sources) source.revoke()
    const deadline = this.#context.rebalanceDeadline()
    const receivers = new Set(sources.map(({ intake }) => intake))
    await Promise.all(
      [...receivers].map((receiver) =>
        receiver.yields(
          sources.filter(({ intake }) => intake === receiver),
          deadline,
        ),
      ),
    )
    this.#tell(this.#end((source) => sources.includes(source)))
    this.#balance()
  }

  #end(which: (source: Assignment) => boolean): Assignment[] {
    const ended: Assignment[] = []
    for (const feed of this.#feeds) {
      for (const source of feed.sources.filter(which)) {
        feed.detach(source)
        ended.push(source)
      }
    }
    return ended
  }

  #tell(lost: readonly Assignment[]): void {
    for (const receiver of new Set(lost.map(({ intake }) => intake))) {
      receiver.sink.lost(lost.filter(({ intake }) => intake === receiver))
    }
  }
}
