import type {
  BrokerContext,
  Deadline,
  Report,
  Sender,
  SendOutcome,
} from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { PublishRefusedError } from '../../src/contract/errors.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { DeadlineWatch } from '../../src/policy/deadline-watch.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { DelayQueue } from '../../src/policy/delay-queue.ts'
import { Call, type CallOwner } from './call.ts'
import type { DriverProducer, KafkaDriver, PartResult } from './driver.ts'
import type { Health, TellHealth } from './health.ts'
import { LeaderLane, type LaneOwner } from './leader-lane.ts'
import type { Resolved } from './options.ts'
import {
  NOT_CONFIRMED,
  NOT_WRITTEN,
  notSent,
  PREDECESSOR,
  recordTooLarge,
  refusal,
  Stored,
} from './outcomes.ts'
import { Outgoing } from './outgoing.ts'
import type { PartitionQueue } from './partition-queue.ts'
import { backoff, Routes, type RouteOwner } from './routes.ts'
import type { TopicRoute } from './topic-route.ts'
import type { TopicLayout, TopicTable } from './topics.ts'

/** What a sender needs. */
export interface KafkaSenderOptions {
  readonly driver: Pick<KafkaDriver, 'producer'>
  readonly topics: Pick<TopicTable, 'topicOf' | 'find' | 'look' | 'stale'>
  readonly limits: Capabilities['limits']
  readonly options: Pick<Resolved, 'partitioner' | 'frozenPartitionCount' | 'producersPerLeader'>
  readonly context: Pick<BrokerContext, 'clock' | 'random' | 'emit'>
  /** For the names of its producers. */
  readonly purpose: string
  readonly health: TellHealth
}

/** Kept back of the time for answers at close: whether a thing was written at all. */
const VERDICT_PART = 0.2
/** Calls that end while they wait leave their places behind; so many are swept up at once. */
const MOST_LEFT = 1_000

/**
 * Publishes in the order of the calls: of each partition one batch at a time, over producers that have
 * one request unresolved each. What waits for a partition, a leader or a connection is refused at its
 * deadline; what was written is reported by the broker's word about that very partition alone.
 */
export class KafkaSender implements Sender, CallOwner, LaneOwner, RouteOwner {
  readonly #options: KafkaSenderOptions
  readonly #routes: Routes
  readonly #lanes = new Map<string, LeaderLane>()
  readonly #calls: DeadlineWatch
  readonly #flights: DeadlineWatch
  readonly #resting: DelayQueue<PartitionQueue>
  #held: { readonly item: Outgoing; readonly outcome: SendOutcome }[] = []
  #left = 0
  #health: Health | null = null
  #producers = 0
  #state: 'open' | 'closing' | 'closed' = 'open'
  #closing: Promise<void> | null = null
  #onIdle: (() => void) | null = null

  constructor(options: KafkaSenderOptions) {
    const { clock } = options.context
    this.#options = options
    this.#calls = new DeadlineWatch(clock)
    this.#flights = new DeadlineWatch(clock)
    this.#routes = new Routes(options, this)
    this.#resting = new DelayQueue(clock, (queue) => this.#rested(queue))
  }

  send(batch: readonly Envelope[], deadline: Deadline, report: Report): void {
    if (batch.length === 0) return
    if (this.#state !== 'open') {
      const outcome = notSent('the sender is closed')
      this.#options.context.clock.defer(() => report(0, batch.length, outcome))
      return
    }
    const call = new Call(batch, deadline, report, this)
    this.#calls.add(call)
    const lanes = new Set<LeaderLane>()
    const known = new Set<TopicRoute>()
    for (let index = 0; index < batch.length; index++) {
      const item = new Outgoing(call, index)
      const route = this.#routeOf(item)
      if (route === null) continue
      if (!known.has(route)) {
        known.add(route)
        this.#routes.refresh(route)
      }
      const lane = this.#place(route, item)
      if (lane !== null) lanes.add(lane)
    }
    for (const lane of lanes) lane.pump()
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  produce(): DriverProducer {
    const { driver, purpose } = this.#options
    return driver.producer(`${purpose} ${++this.#producers}`)
  }

  mayGo(item: Outgoing, now: number, maxBatchBytes: number): boolean {
    const { call, index } = item
    if (!call.isOpen(index)) return false
    // Its timer is late: who is told that it was written does not know any more.
    if (call.dueAt <= now) return this.#hold(item, NOT_WRITTEN)
    if (call.isBehindFailed(index)) return this.#hold(item, PREDECESSOR)
    item.prepare()
    if (item.fits(maxBatchBytes)) return true
    const { envelope } = item
    const topic = this.#options.topics.topicOf(envelope.to)
    const error = recordTooLarge(maxBatchBytes, topic, envelope)
    return this.#hold(item, { status: 'refused', error })
  }

  answered(queue: PartitionQueue, items: readonly Outgoing[], result: PartResult): void {
    if (result.status === 'stored') this.#stored(queue, items, result.baseOffset)
    else if (result.status === 'unknown')
      this.#end(items, { status: 'unknown', error: result.error })
    else this.#refused(queue, items, result)
    this.#offer(queue)?.pump()
  }

  slow(waiting: readonly PartitionQueue[]): void {
    for (const { route } of waiting) this.#routes.lookAgain(route)
  }

  ended(call: Call): void {
    this.#calls.remove(call)
    if (this.#calls.size === 0) this.#onIdle?.()
  }

  late(call: Call, index: number, { status }: SendOutcome): void {
    const { emit } = this.#options.context
    if (!emit.wants('publish.late')) return
    const { id, to } = call.batch[index] as Envelope
    const topic = to.kind === 'reply' ? to.address : to.topic
    emit({ type: 'publish.late', topic, id, outcome: status })
  }

  expired(call: Call): void {
    this.#left += call.batch.length
    if (this.#left < MOST_LEFT) return
    this.#left = 0
    for (const route of this.#routes.all) {
      route.waiting = route.waiting.filter((item) => item.call.isOpen(item.index))
      for (const queue of route.queues) queue.sweep()
    }
  }

  learnt(route: TopicRoute, layout: TopicLayout): void {
    const moved = route.learn(layout)
    const waiting = route.waiting
    route.waiting = []
    const ranks = new Map<number, number>()
    const lanes = new Set<LeaderLane | null>()
    for (const queue of route.queues) {
      this.#lead(queue, layout.leaders[queue.partition] ?? null, ranks)
      if (queue.state === 'resting') queue.state = 'idle'
      lanes.add(this.#offer(queue))
    }
    for (const item of [...moved, ...waiting]) lanes.add(this.#place(route, item))
    for (const lane of lanes) lane?.pump()
    // Nothing is left that could show it, and the cluster answers.
    if (this.#calls.size === 0) this.#tellHealth('up', null)
  }

  noRoute(route: TopicRoute, error: PublishRefusedError): void {
    for (const item of route.forget()) this.#hold(item, { status: 'refused', error })
    for (const queue of route.queues) if (queue.state === 'resting') queue.state = 'idle'
  }

  unreachable(reason: string): void {
    this.#tellHealth('away', reason)
  }

  /** The route of its topic; `null` when it is refused for what it is. */
  #routeOf(item: Outgoing): TopicRoute | null {
    try {
      return this.#routes.of(item.envelope)
    } catch (error) {
      this.#hold(item, refusal(error, item.envelope))
      return null
    }
  }

  /** Puts it into its queue; returns the lane to pump. */
  #place(route: TopicRoute, item: Outgoing): LeaderLane | null {
    if (route.layout === null) {
      route.waiting.push(item)
      return null
    }
    try {
      const queue = route.queueFor(item)
      queue.push(item)
      return this.#offer(queue)
    } catch (error) {
      this.#hold(item, refusal(error, item.envelope))
      return null
    }
  }

  /** Says that the queue has something; returns the lane to pump. */
  #offer(queue: PartitionQueue): LeaderLane | null {
    if (queue.state !== 'idle' || queue.size === 0) return null
    if (queue.lane === null) this.#rest(queue)
    else queue.lane.offer(queue)
    return queue.lane
  }

  /** Partitions of one leader take turns over its lanes. */
  #lead(queue: PartitionQueue, leader: number | null, ranks: Map<number, number>): void {
    let lane: LeaderLane | null = null
    if (leader !== null) {
      const rank = ranks.get(leader) ?? 0
      ranks.set(leader, rank + 1)
      lane = this.#laneOf(leader, rank % this.#options.options.producersPerLeader)
    }
    if (queue.lane !== lane) queue.lane?.withdraw(queue)
    queue.lane = lane
  }

  #laneOf(leader: number, index: number): LeaderLane {
    const name = `${leader}.${index}`
    let lane = this.#lanes.get(name)
    if (lane === undefined) {
      const { clock } = this.#options.context
      lane = new LeaderLane({ owner: this, clock, watch: this.#flights })
      this.#lanes.set(name, lane)
    }
    return lane
  }

  #stored(queue: PartitionQueue, items: readonly Outgoing[], baseOffset: string | null): void {
    queue.passed(items.length)
    this.#tellHealth('up', null)
    if (baseOffset === null) {
      for (const { call, index } of items) call.confirm(index)
      return
    }
    const base = BigInt(baseOffset)
    for (let at = 0; at < items.length; at++) {
      const { call, index } = items[at] as Outgoing
      call.end(index, index + 1, new Stored(queue.partition, base, at))
    }
  }

  #refused(
    queue: PartitionQueue,
    items: readonly Outgoing[],
    { error, alone, stale }: Extract<PartResult, { status: 'refused' }>,
  ): void {
    const isAgain =
      this.#state === 'open' && (stale === true || (alone === true && items.length > 1))
    if (!isAgain) {
      queue.passed(items.length)
      return this.#end(items, { status: 'refused', error })
    }
    for (const { call, index } of items) call.unwrite(index)
    if (stale === true) {
      this.#tellHealth('weak', error.message)
      queue.putBack(items)
      this.#rest(queue)
    } else queue.suspect(items)
  }

  /** Until its leader was looked up again. */
  #rest(queue: PartitionQueue): void {
    queue.state = 'resting'
    queue.lane?.withdraw(queue)
    this.#resting.add(backoff.delayFor(++queue.tries, this.#options.context.random), queue)
  }

  #rested(queue: PartitionQueue): void {
    if (queue.state === 'resting') this.#routes.lookAgain(queue.route)
  }

  #tellHealth(health: Health, reason: string | null): void {
    if (health === this.#health) return
    this.#health = health
    this.#options.health(health, reason)
  }

  /** The same end for all; of a refused key the first one has it, the others stand behind it. */
  #end(items: readonly Outgoing[], outcome: SendOutcome): void {
    for (const { call, index } of items) {
      const isBehind = outcome.status === 'refused' && call.isBehindFailed(index)
      call.end(index, index + 1, isBehind ? PREDECESSOR : outcome)
    }
  }

  /** Nothing is reported from inside `send`. Returns false, for `mayGo`. */
  #hold(item: Outgoing, outcome: SendOutcome): false {
    item.call.hold(item.index, outcome)
    this.#held.push({ item, outcome })
    if (this.#held.length === 1) this.#options.context.clock.defer(() => this.#tellHeld())
    return false
  }

  #tellHeld(): void {
    const held = this.#held
    this.#held = []
    for (const { item, outcome } of held) item.call.tellHeld(item.index, outcome)
  }

  async #close(deadline: Deadline): Promise<void> {
    const { clock } = this.#options.context
    this.#state = 'closing'
    this.#tellHeld()
    const outcome = notSent('the sender was closed')
    for (const call of this.#calls.items() as Call[]) call.refuseUnwritten(outcome)
    if (this.#calls.size > 0) {
      const idle = new Promise<void>((resolve) => void (this.#onIdle = resolve))
      const answersBy = deadline - (deadline - clock.now()) * VERDICT_PART
      await withDeadline(clock, answersBy, () => idle, 'answers').catch(() => undefined)
    }
    // Who writes says now of what it has not written that it has not.
    const lanes = [...this.#lanes.values()]
    const landed = Promise.all(lanes.map((lane) => lane.landed()))
    const closing = Promise.all(lanes.map((lane) => lane.close()))
    if (this.#calls.size > 0) {
      await withDeadline(clock, deadline, () => landed, 'the last word').catch(() => undefined)
    }
    this.#state = 'closed'
    for (const call of this.#calls.items() as Call[]) call.giveUp(outcome, NOT_CONFIRMED)
    this.#calls.close()
    this.#flights.close()
    this.#routes.close()
    this.#resting.clear()
    await closing
  }
}
