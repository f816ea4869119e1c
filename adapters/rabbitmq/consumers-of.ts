import type { BrokerContext, DeliverySink, Subscription } from '../../src/contract/broker.ts'
import type { HoldfastError } from '../../src/contract/errors.ts'
import { Balance, type BalancePace } from './balance.ts'
import { MOST_HELD } from './capabilities.ts'
import type { ConsumerChannel } from './consumer-channel.ts'
import { Members } from './members.ts'
import type { Resolved } from './options.ts'
import { QueueConsumer } from './queue-consumer.ts'
import type { Room } from './room.ts'
import type { TopicPlan, Topics } from './topics.ts'

/** What consuming a group's queues needs. */
export interface ConsumersOptions {
  readonly topics: Topics
  readonly options: Pick<Resolved, 'rpcTimeoutMs' | 'consumerTimeoutMs' | 'nativeRetry'>
  readonly context: BrokerContext
  readonly subscription: Subscription
  readonly sink: DeliverySink
  readonly pace?: BalancePace
}

/** What consumers ask and tell; see `ChannelShare` and `QueueConsumerOptions`. */
export interface ConsumerHooks {
  readonly room: Room
  readonly hands: () => boolean
  readonly starved: (channel: ConsumerChannel) => void
  readonly nextEpoch: () => number
  readonly told: (consumer: QueueConsumer, trouble: HoldfastError | null) => void
  readonly lost: (channel: ConsumerChannel) => void
}

/** All queues of a group, and how those of partitioned topics are shared with other receivers. */
export interface Consumers {
  readonly all: readonly QueueConsumer[]
  readonly balances: readonly Balance[]
}

/** Messages that come before there is room for them wait here; of many partitions no more than that in all. */
const MOST_RESTING = 16_384

/** A consumer for each queue that the subscription reads. */
export function consumersOf(given: ConsumersOptions, hooks: ConsumerHooks): Consumers {
  const { topics, subscription } = given
  const { group, maxHeld } = subscription
  const plans = subscription.topics.map((topic) => topics.of(topic))
  const queues = plans.reduce((count, plan) => count + plan.queues(group).length, 0)
  const all: QueueConsumer[] = []
  const balances: Balance[] = []
  for (const plan of plans) {
    const prefetch = prefetchOf(plan.ordered, queues, maxHeld.messages)
    const own = plan.queues(group).map((queue) => consumerOf(plan, queue, prefetch, given, hooks))
    all.push(...own)
    if (plan.ordered && own.length > 1) balances.push(balanceOf(own, plan, given, hooks))
  }
  return { all, balances }
}

function consumerOf(
  plan: TopicPlan,
  queue: string,
  prefetch: number,
  { options, context, subscription, sink }: ConsumersOptions,
  { room, hands, starved, ...told }: ConsumerHooks,
): QueueConsumer {
  const { topic, ordered: isSingleActive } = plan
  const { clock, emit, random } = context
  const { group, ordering } = subscription
  return new QueueConsumer({
    ...told,
    topic,
    group,
    random,
    rpcTimeoutMs: options.rpcTimeoutMs,
    terms: { queue, prefetch, timeoutMs: options.consumerTimeoutMs },
    share: {
      ...{ clock, emit, sink, ordering, isSingleActive, room, hands, starved },
      to: Object.freeze({ kind: 'topic', topic }),
      nativeRetry: plan.isOurs(group) && !plan.ordered ? options.nativeRetry : null,
    },
    paused: () => !hands(),
  })
}

function balanceOf(
  consumers: readonly QueueConsumer[],
  plan: TopicPlan,
  { context, options, subscription, pace }: ConsumersOptions,
  { hands }: ConsumerHooks,
): Balance {
  const { clock, random, emit } = context
  const members = new Members({
    queue: plan.members(subscription.group),
    clock,
    emit,
    rpcTimeoutMs: options.rpcTimeoutMs,
  })
  return new Balance({ consumers, members, clock, random, hands, ...(pace && { pace }) })
}

/**
 * What one of so many queues may have open. Of queues that others consume too each gets its share of
 * what may be held, so that nothing waits here that somebody else could handle. One with a single active
 * consumer is ours alone: all that may be held may be its own, else one failing key would stop the
 * others of its partition long before the bound.
 */
function prefetchOf(isSingleActive: boolean, queues: number, messages: number): number {
  const share = Math.max(1, Math.floor(messages / queues))
  if (!isSingleActive) return Math.min(MOST_HELD, share)
  const most = Math.max(share, Math.floor(MOST_RESTING / queues))
  return Math.max(1, Math.min(MOST_HELD, messages, most))
}
