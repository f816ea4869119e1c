import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { isHoldfastError, PublishRefusedError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import { exponential, type Backoff } from '../../src/policy/backoff.ts'
import { DelayQueue } from '../../src/policy/delay-queue.ts'
import { noSuchTopic } from './errors.ts'
import type { Resolved } from './options.ts'
import { checkBody } from './outcomes.ts'
import { partitionerOf } from './partitioner.ts'
import { TopicRoute } from './topic-route.ts'
import type { TopicLayout, TopicTable } from './topics.ts'

/** What is told of routes while they are looked up. */
export interface RouteOwner {
  /** Its partitions and their leaders, as they are from now on. */
  learnt(route: TopicRoute, layout: TopicLayout): void
  /** What waits for it can never be written. */
  noRoute(route: TopicRoute, error: PublishRefusedError): void
  /** Nobody answers; it is asked again. */
  unreachable(reason: string): void
}

/** What routes need. */
export interface RoutesOptions {
  readonly topics: Pick<TopicTable, 'topicOf' | 'find' | 'look' | 'stale'>
  readonly limits: Capabilities['limits']
  readonly options: Pick<Resolved, 'partitioner' | 'frozenPartitionCount'>
  readonly context: { readonly clock: Clock; readonly random: Random }
}

/** Between tries, of a look as of a write. */
export const backoff: Backoff = exponential({ initialMs: 20, maxMs: 2_000 })

/** The topics that a sender writes to: found by destination, looked up, and again when they were wrong. */
export class Routes {
  readonly #options: RoutesOptions
  readonly #owner: RouteOwner
  readonly #byTopic = new Map<string, TopicRoute>()
  readonly #resting: DelayQueue<TopicRoute>
  #isClosed = false

  constructor(options: RoutesOptions, owner: RouteOwner) {
    this.#options = options
    this.#owner = owner
    this.#resting = new DelayQueue(options.context.clock, (route) => this.#look(route))
  }

  get all(): Iterable<TopicRoute> {
    return this.#byTopic.values()
  }

  /** The route of a message; throws what refuses it. */
  of(envelope: Envelope): TopicRoute {
    const { topics, limits, options, context } = this.#options
    checkBody(envelope, limits)
    const topic = topics.topicOf(envelope.to)
    let route = this.#byTopic.get(topic)
    if (route === undefined) {
      route = newRoute(topic, envelope.to, options, context.random)
      this.#byTopic.set(topic, route)
    }
    return route
  }

  /** Takes over what others learnt about the topic meanwhile; the first time it is looked up. */
  refresh(route: TopicRoute): void {
    const layout = this.#options.topics.find(route.topic)
    if (layout !== null && layout !== route.layout) this.#owner.learnt(route, layout)
    else if (layout === null && route.layout === null) this.#look(route)
  }

  /** What is known of it proved wrong. */
  lookAgain(route: TopicRoute): void {
    this.#options.topics.stale(route.topic)
    this.#look(route)
  }

  close(): void {
    this.#isClosed = true
    this.#resting.clear()
  }

  #look(route: TopicRoute): void {
    if (route.isLooking || this.#isClosed) return
    route.isLooking = true
    this.#options.topics.look(route.topic).then(
      (layout) => {
        route.isLooking = false
        route.tries = 0
        if (layout === null) this.#owner.noRoute(route, noSuchTopic(route.topic))
        else this.#owner.learnt(route, layout)
      },
      (error: unknown) => this.#cannotLook(route, error),
    )
  }

  #cannotLook(route: TopicRoute, error: unknown): void {
    route.isLooking = false
    if (isHoldfastError(error) && error.code === 'topology') {
      const { message } = error
      this.#owner.noRoute(route, new PublishRefusedError('rejected', message, { cause: error }))
      return
    }
    this.#owner.unreachable(error instanceof Error ? error.message : String(error))
    this.#resting.add(backoff.delayFor(++route.tries, this.#options.context.random), route)
  }
}

/** A topic that nothing is known of yet, with what was said about its partitions. */
export function newRoute(
  topic: string,
  to: Destination,
  { partitioner, frozenPartitionCount }: RoutesOptions['options'],
  random: Random,
): TopicRoute {
  const name = to.kind === 'reply' ? to.address : to.topic
  const frozenCount = frozenPartitionCount.get(name) ?? null
  return new TopicRoute(topic, { partitioner: partitionerOf(partitioner), random, frozenCount })
}
