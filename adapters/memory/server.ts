import type { Cancel, Clock } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Feed, FeedContext } from './feed.ts'
import type { MembershipContext } from './membership.ts'
import type { Settings } from './options.ts'
import { SendFaults } from './send-faults.ts'
import { Later, Timeline } from './timeline.ts'
import { TopicLog } from './topic-log.ts'
import type { TransactFault } from './transact.ts'

/** A connection as the server sees it. */
export interface Client {
  /** Reports what was answered since the last turn. */
  report(): void
  /** A fault ended: what it held back goes on. */
  resume(): void
  /** Envelopes handed over and not reported. */
  readonly unreported: number
  down(reason: string): void
  up(): void
}

/**
 * The broker itself, apart from the connections to it: topics, what is due when, and one turn of the
 * event loop for everything that can be handed out. It lives as long as somebody holds it.
 */
export class MemoryServer implements FeedContext, MembershipContext {
  readonly settings: Settings
  readonly capabilities: Capabilities
  readonly topics: Map<string, TopicLog> = new Map<string, TopicLog>()
  readonly timeline: Timeline = new Timeline()
  /** Settles that the server will not notice: a fault asked for by a test. */
  settlesToMiss = 0
  readonly transactFaults: TransactFault[] = []
  readonly faults: SendFaults = new SendFaults(() => {
    for (const client of this.#clients) client.resume()
  })
  readonly #clients = new Set<Client>()
  readonly #quiet = new Set<() => void>()
  #clock: Clock | null = null
  #turnIsDue = false
  #awake: Feed[] = []

  constructor(settings: Settings) {
    this.settings = settings
    this.capabilities = settings.capabilities
  }

  get clock(): Clock {
    if (this.#clock !== null) return this.#clock
    throw new HoldfastError('closed', 'the memory broker is not open: await open(context) first')
  }

  get clients(): ReadonlySet<Client> {
    return this.#clients
  }

  /** The first connection brings the clock. */
  connect(client: Client, clock: Clock): void {
    if (this.#clients.size === 0) {
      this.#clock = clock
      this.timeline.start(clock)
    }
    this.#clients.add(client)
    this.turn()
  }

  /** Without connections nothing runs: no timer, no turn. */
  disconnect(client: Client): void {
    this.#clients.delete(client)
    if (this.#clients.size === 0) this.timeline.stop()
  }

  topic(name: string): TopicLog | undefined {
    return this.topics.get(name)
  }

  /** Makes the topic; it must not be there yet. */
  addTopic(name: string, partitions: number | null): TopicLog {
    const { history, maxDepth, keepPublished } = this.settings
    const keeping = { history: history ? maxDepth : 0, published: keepPublished }
    const topic = new TopicLog(name, partitions, keeping, this)
    this.topics.set(name, topic)
    return topic
  }

  wake(feed: Feed): void {
    feed.awake = true
    this.#awake.push(feed)
    this.turn()
  }

  changed(): void {
    if (this.#quiet.size > 0) this.turn()
  }

  later(delayMs: number, task: () => void): void {
    this.timeline.add(new Later(this.clock.now() + delayMs, task))
  }

  missesSettle(): boolean {
    if (this.settlesToMiss === 0) return false
    this.settlesToMiss--
    return true
  }

  rebalanceDeadline(): number {
    return this.clock.now() + this.settings.rebalanceMs
  }

  /** Runs one turn soon: reports first, then deliveries, then those who wait for quiet. */
  turn(): void {
    if (this.#turnIsDue || this.#clients.size === 0) return
    this.#turnIsDue = true
    this.clock.defer(() => {
      this.#turnIsDue = false
      for (const client of this.#clients) client.report()
      if (!this.settings.manual) this.deliver()
      for (const look of this.#quiet) look()
    })
  }

  /** Hands over what is pending and fits; returns how many messages. */
  deliver(): number {
    if (this.#clients.size === 0) return 0
    const feeds = this.#awake
    this.#awake = []
    let count = 0
    for (const feed of feeds) {
      feed.awake = false
      count += feed.feed()
    }
    return count
  }

  /** Calls `look` after every turn until the returned function is called. */
  watch(look: () => void): Cancel {
    this.#quiet.add(look)
    this.turn()
    return () => void this.#quiet.delete(look)
  }
}
