import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { Wake } from '../../src/policy/wake.ts'
import type { ConsumerChannel } from './consumer-channel.ts'
import type { Members } from './members.ts'
import type { Wire } from './wire.ts'

/** One queue's consumer, as far as it can be moved. */
export interface Movable {
  readonly channel: Pick<ConsumerChannel, 'isActive' | 'held' | 'handed' | 'becomeActive'> | null
  handOver(deadline: Deadline): Promise<void>
}

/** What sharing the queues of one topic with others needs. */
export interface BalanceOptions {
  /** Those of all its partitions. */
  readonly consumers: readonly Movable[]
  readonly members: Pick<Members, 'attach' | 'join' | 'leave' | 'count'>
  readonly clock: Clock
  readonly random: Random
  /** Whether anything is handed over now: a paused receiver keeps what it has. */
  readonly hands: () => boolean
  readonly pace?: BalancePace
}

/** How fast queues move; all in milliseconds. */
export interface BalancePace {
  /** From one look to the next, at random in between. */
  readonly everyMs: readonly [least: number, most: number]
  /** How long a queue waits at most for those who have deliveries of it to finish. */
  readonly handOverMs: number
  /** So long a queue that left stays: it comes back when nobody else waits for it. */
  readonly restMs: number
}

const PACE: BalancePace = { everyMs: [1_000, 3_000], handOverMs: 60_000, restMs: 60_000 }

/**
 * Spreads the queues of one topic over the receivers that read them. Each consumes all of them, and each
 * queue serves the consumer that came first. A receiver that is first on more than its share, which is
 * their number by that of the receivers, rounded up, goes to the end of one queue's line, and looks again
 * later; so what is too much moves on until it finds one that has room. Nobody with its share or less
 * moves anything, which ends it.
 */
export class Balance {
  readonly #options: BalanceOptions
  readonly #wake: Wake
  /** Until when a queue stays, on the clock. */
  readonly #resting = new Map<Movable, number>()
  /** What each channel had handed over at the last look. */
  #handed = new Map<object, number>()
  #state: 'idle' | 'running' | 'stopped' = 'idle'
  #isAway = false

  constructor(options: BalanceOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  /** From now on over that wire. */
  attach(wire: Wire): void {
    const { members } = this.#options
    if (this.#state === 'stopped') return
    members.attach(wire)
    if (this.#isAway) members.leave()
    if (this.#state === 'running') return
    this.#state = 'running'
    void this.#run()
  }

  /** Whether it takes what others leave; what it has stays. */
  set takesPart(takesPart: boolean) {
    if (this.#state === 'stopped') return
    const { members } = this.#options
    this.#isAway = !takesPart
    if (takesPart) void members.join()
    else members.leave()
  }

  /** Moves nothing any more. */
  stop(): void {
    this.#state = 'stopped'
    this.#options.members.leave()
    this.#wake.ring()
  }

  async #run(): Promise<void> {
    const { random, pace = PACE } = this.#options
    const [least, most] = pace.everyMs
    while (this.#state === 'running') {
      await this.#wake.sleep(least + random.next() * (most - least))
      if (this.#state === 'running') await this.#round()
    }
  }

  async #round(): Promise<void> {
    const { consumers, members, hands } = this.#options
    if (!this.#isAway) await members.join()
    const active = consumers.filter(({ channel }) => channel?.isActive)
    const busy = this.#busyOf(active)
    if (active.length < 2 || !hands()) return
    const count = await members.count()
    if (count === null) return
    if (count === 1) {
      for (const { channel } of consumers) channel?.becomeActive()
      return
    }
    const share = Math.ceil(consumers.length / count)
    if (active.length > share) await this.#moveOne(active, busy)
  }

  /** Those that handed something over since the last look, or still have it. */
  #busyOf(active: readonly Movable[]): ReadonlySet<Movable> {
    const handed = new Map<object, number>()
    const busy = new Set<Movable>()
    for (const consumer of active) {
      const { channel } = consumer
      if (channel === null) continue
      handed.set(channel, channel.handed)
      if (channel.held > 0 || channel.handed !== this.#handed.get(channel)) busy.add(consumer)
    }
    this.#handed = handed
    return busy
  }

  /**
   * Busy and quiet ones in the proportion in which there are any, so that not only the quiet ones move;
   * of either kind the one with the least in flight.
   */
  async #moveOne(active: readonly Movable[], busy: ReadonlySet<Movable>): Promise<void> {
    const { clock, random, pace = PACE } = this.#options
    const now = clock.now()
    const movable = active.filter((consumer) => (this.#resting.get(consumer) ?? now) <= now)
    const isBusy = random.next() * active.length < busy.size
    const kind = movable.filter((consumer) => busy.has(consumer) === isBusy)
    const [one] = (kind.length > 0 ? kind : movable).toSorted(byHeld)
    if (one === undefined) return
    await one.handOver(now + pace.handOverMs)
    this.#resting.set(one, clock.now() + pace.restMs)
  }
}

function byHeld(one: Movable, other: Movable): number {
  return (one.channel?.held ?? 0) - (other.channel?.held ?? 0)
}
