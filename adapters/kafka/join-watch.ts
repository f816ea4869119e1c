import type { Clock } from '../../src/contract/clock.ts'
import { Wake } from '../../src/policy/wake.ts'
import { troubleOf } from './group-errors.ts'
import type { GroupLink, HeartbeatLink, Member } from './group-link.ts'

/** What watching a join needs. */
export interface JoinWatchOptions {
  readonly link: Pick<GroupLink, 'beside'>
  readonly clock: Clock
  readonly sessionTimeoutMs: number
  /** As whom the coordinator knows us at present. */
  readonly member: () => Member
  /** When it heard of us last, for certain. */
  readonly heardAt: () => number
  /** It heard of us then. */
  readonly heard: (at: number) => void
  /** It has not for a whole session, or does not know us: others may have what was ours. */
  readonly lost: () => void
}

/** Of a session, the time after which the coordinator is asked, and asked again when it did not answer. */
const ASKED_AFTER = 1 / 3
const AGAIN_AFTER = 1 / 12
/** How long ending its connections may take; nobody waits for it. */
const CLOSE_MS = 1_000

/**
 * What was assigned is kept while the group is divided anew, which may take longer than a session; but
 * only as long as the coordinator hears of us. On the connection of the join it answers nothing else, so
 * it is asked on another one, which is made when a join takes long.
 */
export class JoinWatch {
  readonly #options: JoinWatchOptions
  readonly #wake: Wake
  #beside: HeartbeatLink | null = null
  #isOver = false

  /** Begins to watch. */
  constructor(options: JoinWatchOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
    void this.#run()
  }

  /** Idempotent. */
  end(): void {
    this.#isOver = true
    this.#wake.ring()
    this.#close()
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { clock, sessionTimeoutMs, heardAt, lost } = this.#options
    for (let beatAt = heardAt() + sessionTimeoutMs * ASKED_AFTER; ;) {
      await this.#wake.sleep(Math.max(0, Math.min(beatAt, this.#endsAt) - clock.now()))
      if (this.#isOver) return
      const isKnown = clock.now() < this.#endsAt && (await this.#beat())
      if (this.#isOver) return
      if (!isKnown) break
      const isFresh = clock.now() - heardAt() < sessionTimeoutMs * ASKED_AFTER
      beatAt = clock.now() + sessionTimeoutMs * (isFresh ? ASKED_AFTER : AGAIN_AFTER)
    }
    this.end()
    lost()
  }

  get #endsAt(): number {
    return this.#options.heardAt() + this.#options.sessionTimeoutMs
  }

  /** false: we are not its member any more. */
  async #beat(): Promise<boolean> {
    const { link, clock, sessionTimeoutMs, member, heard } = this.#options
    const sentAt = clock.now()
    const deadline = Math.min(sentAt + sessionTimeoutMs * ASKED_AFTER, this.#endsAt)
    try {
      this.#beside ??= link.beside()
      await this.#beside.heartbeat(member(), deadline)
      heard(sentAt)
      return true
    } catch (error) {
      switch (troubleOf(error)) {
        case 'rebalance':
          heard(sentAt)
          return true
        case 'overtaken':
          // The join was answered: either that is on its way, or it is lost.
          return true
        case 'fenced':
          return false
        default:
          this.#close()
          return true
      }
    }
  }

  #close(): void {
    const { clock } = this.#options
    void this.#beside?.close(clock.now() + CLOSE_MS)
    this.#beside = null
  }
}
