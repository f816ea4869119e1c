import type {
  BrokerContext,
  Deadline,
  Report,
  Sender,
  SendOutcome,
} from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import { isHoldfastError, PublishRefusedError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { DeadlineWatch } from '../../src/policy/deadline-watch.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { DelayQueue } from '../../src/policy/delay-queue.ts'
import { Call, type CallOwner } from './call.ts'
import type { DriverProducer, KafkaDriver, PartResult } from './driver.ts'
import { noSuchTopic } from './errors.ts'
import type { Health, TellHealth } from './health.ts'
import { LeaderLane, type LaneOwner } from './leader-lane.ts'
import type { Resolved } from './options.ts'
import {
  bodyTooLarge,
  NOT_CONFIRMED,
  NOT_WRITTEN,
  notSent,
  PREDECESSOR,
  recordTooLarge,
  refusal,
  Stored,
} from './outcomes.ts'
import { Outgoing } from './outgoing.ts'
import { partitionerOf } from './partitioner.ts'
import type { PartitionQueue } from './partition-queue.ts'
import { TopicRoute } from './topic-route.ts'
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

const backoff = exponential({ initialMs: 20, maxMs: 2_000 })
/** Kept back of the time for answers at close: whether a thing was written at all. */
const VERDICT_PART = 0.2
/** Calls that end while they wait leave their places behind; so many are swept up at once. */
const MOST_LEFT = 1_000

/**
 * Publishes in the order of the calls: of each partition one batch at a time, over producers that have
 * one request unresolved each. What waits for a partition, a leader or a connection is refused at its
 * deadline; what was written is reported by the broker's word about that very partition alone.
 */
export class KafkaSender implements Sender, CallOwner, LaneOwner {
  readonly #options: KafkaSenderOptions
  readonly #routes = new Map<string, TopicRoute>()
  readonly #lanes = new Map<string, LeaderLane>()
  readonly #calls: DeadlineWatch
  readonly #flights: DeadlineWatch
  readonly #resting: DelayQueue<PartitionQueue | TopicRoute>
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
    this.#resting = new DelayQueue(clock, (rested) => {
      if (rested instanceof TopicRoute) this.#look(rested)
      else this.#rested(rested)
    })
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
        this.#refresh(route)
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
    return this.#hold(item, recordTooLarge(maxBatchBytes, topic, envelope))
  }

  answered(queue: PartitionQueue, items: readonly Outgoing[], result: PartResult): void {
    if (result.status === 'stored') this.#stored(queue, items, result.baseOffset)
    else if (result.status === 'unknown')
      this.#end(items, { status: 'unknown', error: result.error })
    else this.#refused(queue, items, result)
    this.#offer(queue)?.pump()
  }

  slow(waiting: readonly PartitionQueue[]): void {
    for (const { route } of waiting) this.#lookAgain(route)
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
    for (const route of this.#routes.values()) {
      route.waiting = route.waiting.filter((item) => item.call.isOpen(item.index))
      for (const queue of route.queues) queue.sweep()
    }
  }

  /** The route of its topic; `null` when it is refused for what it is. */
  #routeOf(item: Outgoing): TopicRoute | null {
    const { topics, limits, options, context } = this.#options
    const { to, body } = item.envelope
    try {
      if (to.kind === 'topic' && body !== null) {
        const { maxBodyBytes } = limits(to.topic)
        if (body.length > maxBodyBytes) {
          this.#hold(item, bodyTooLarge(body.length, maxBodyBytes, item.envelope))
          return null
        }
      }
      const topic = topics.topicOf(to)
      let route = this.#routes.get(topic)
      if (route === undefined) {
        const frozenCount = options.frozenPartitionCount.get(nameOf(to)) ?? null
        const partitioner = partitionerOf(options.partitioner)
        route = new TopicRoute(topic, { partitioner, random: context.random, frozenCount })
        this.#routes.set(topic, route)
      }
      return route
    } catch (error) {
      this.#hold(item, refusal(error, item.envelope))
      return null
    }
  }

  /** Takes over what others learnt about the topic meanwhile. */
  #refresh(route: TopicRoute): void {
    const layout = this.#options.topics.find(route.topic)
    if (layout !== null && layout !== route.layout) this.#learn(route, layout)
    else if (layout === null && route.layout === null) this.#look(route)
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

  #look(route: TopicRoute): void {
    if (route.isLooking || this.#state === 'closed') return
    route.isLooking = true
    this.#options.topics.look(route.topic).then(
      (layout) => {
        route.isLooking = false
        route.tries = 0
        if (layout === null) this.#missing(route)
        else this.#learn(route, layout)
      },
      (error: unknown) => this.#cannotLook(route, error),
    )
  }

  #lookAgain(route: TopicRoute): void {
    this.#options.topics.stale(route.topic)
    this.#look(route)
  }

  #learn(route: TopicRoute, layout: TopicLayout): void {
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

  #missing(route: TopicRoute): void {
    const outcome: SendOutcome = { status: 'refused', error: noSuchTopic(route.topic) }
    for (const item of route.forget()) this.#hold(item, outcome)
    for (const queue of route.queues) if (queue.state === 'resting') queue.state = 'idle'
  }

  #cannotLook(route: TopicRoute, error: unknown): void {
    route.isLooking = false
    const { random } = this.#options.context
    if (isHoldfastError(error) && error.code === 'topology') {
      const { message } = error
      const refused = new PublishRefusedError('rejected', message, { cause: error })
      for (const item of route.forget()) this.#hold(item, { status: 'refused', error: refused })
      return
    }
    this.#tellHealth('away', textOf(error))
    this.#resting.add(backoff.delayFor(++route.tries, random), route)
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
    if (queue.state === 'resting') this.#lookAgain(queue.route)
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
    this.#resting.clear()
    await closing
  }
}

function nameOf(to: Destination): string {
  return to.kind === 'reply' ? to.address : to.topic
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
