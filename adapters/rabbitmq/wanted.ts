import type { TopicTopology } from '../../src/contract/topology.ts'
import { tellsFailureFromRelease, type Version } from './capabilities.ts'
import type { Resolved } from './options.ts'
import type { Plan } from './topics.ts'

/** Value of a queue's argument or of a policy's key. */
export type Setting = string | number | boolean

/** Settings by their policy key; as an argument of the queue each has `x-` before it. */
export type Settings = Readonly<Record<string, Setting>>

/** A topic exchange, or the fanout in front of a delay level. */
export interface WantedExchange {
  readonly kind: 'exchange'
  readonly name: string
  readonly type: 'topic' | 'fanout'
  /** The user's own: looked at only. */
  readonly mapped: boolean
}

/** A queue, and how it has to be. */
export interface WantedQueue {
  readonly kind: 'queue'
  readonly name: string
  readonly role: 'group' | 'retry' | 'dead'
  /** The name without the partition: all of a family are alike. */
  readonly family: string
  readonly mapped: boolean
  /** Can only be given as arguments, when the queue is made. */
  readonly fixed: Settings
  /** Can be given as arguments or by a policy. */
  readonly settings: Settings
}

/** What makes a queue get the messages of an exchange. */
export interface WantedBinding {
  readonly kind: 'binding'
  readonly exchange: string
  readonly queue: string
  readonly key: string
  readonly group: string
  readonly mapped: boolean
}

/** One thing that has to exist. */
export type Wanted = WantedExchange | WantedQueue | WantedBinding

/** What decides how queues have to be. */
export type WantedOptions = Pick<
  Resolved,
  'queueType' | 'deliveryLimit' | 'nativeRetry' | 'consumerTimeoutMs'
> & { readonly version: Version }

/** The broker's own, up to 4.2 the same for every queue that does not say otherwise. */
const BROKER_CONSUMER_TIMEOUT_MS = 1_800_000

const NEVER_REACHED = 2_147_483_647

/** Never lost on the way to where it goes when it ends here; needs a quorum queue that rejects when full. */
const deadLettersSafely: Settings = Object.freeze({
  overflow: 'reject-publish',
  'dead-letter-strategy': 'at-least-once',
})

/**
 * Everything one topic needs, in the order in which it can be made: what is written to comes before
 * what leads there.
 */
export function wantedOf(
  plan: Plan,
  topology: Pick<TopicTopology, 'groups' | 'ordering' | 'retryLevelsMs'>,
  options: WantedOptions,
): readonly Wanted[] {
  const { exchange, map } = plan
  const mapped = map?.exchange !== undefined
  const groups = topology.groups.flatMap((group) => wantedOfGroup(plan, group, topology, options))
  // The default exchange always exists and cannot be declared.
  if (exchange === '') return groups
  return [{ kind: 'exchange', name: exchange, type: 'topic', mapped }, ...groups]
}

function wantedOfGroup(
  plan: Plan,
  group: string,
  { ordering, retryLevelsMs }: Pick<TopicTopology, 'ordering' | 'retryLevelsMs'>,
  options: WantedOptions,
): readonly Wanted[] {
  const mapped = plan.map?.groups?.[group] !== undefined
  const queues = plan.queues(group)
  return [
    deadQueue(plan.dead(group)),
    ...queues.map((name): WantedQueue => {
      const family = mapped ? name : plan.names.queue(group)
      const queue = { kind: 'queue', name, family, role: 'group', mapped } as const
      if (mapped) return { ...queue, fixed: {}, settings: {} }
      return { ...queue, ...groupSettings(plan.dead(group), ordering !== 'none', options) }
    }),
    ...bindingsOf(plan, group),
    ...retryLevelsMs.flatMap((levelMs) => wantedOfLevel(plan, group, levelMs)),
  ]
}

/** Where retries and dead letters of a topic's groups go. */
export function companionsOf(
  ...about: Parameters<typeof wantedOf>
): readonly (WantedExchange | WantedQueue)[] {
  const isOwn = (wanted: Wanted): boolean => {
    if (wanted.kind === 'queue') return wanted.role !== 'group'
    return wanted.kind === 'exchange' && wanted.type === 'fanout'
  }
  return wantedOf(...about).filter((wanted): wanted is WantedExchange | WantedQueue =>
    isOwn(wanted),
  )
}

/** The bindings that bring a topic's messages to a group; none from the default exchange. */
export function bindingsOf(plan: Plan, group: string): readonly WantedBinding[] {
  const { exchange, map } = plan
  if (exchange === '') return []
  const mapped = map?.exchange !== undefined && map.groups?.[group] !== undefined
  return plan.queues(group).map((queue, index) => {
    const key = map?.routingKey ?? (plan.partitions === null ? '#' : String(index))
    return { kind: 'binding', exchange, queue, key, group, mapped }
  })
}

function groupSettings(
  dead: string,
  ordered: boolean,
  { queueType, deliveryLimit, nativeRetry, consumerTimeoutMs, version }: WantedOptions,
): Pick<WantedQueue, 'fixed' | 'settings'> {
  const isQuorum = queueType === 'quorum'
  // A queue that delays what it gets back hands out what came later before it: no order outlives that.
  const delays = nativeRetry !== null &&
    !ordered && {
      'delayed-retry-type': 'failed',
      'delayed-retry-min': nativeRetry.minMs,
      'delayed-retry-max': nativeRetry.maxMs,
    }
  const limits = isQuorum && {
    ...deadLettersSafely,
    'delivery-limit': deliveryLimit,
    'dead-letter-exchange': '',
    'dead-letter-routing-key': dead,
  }
  // From 4.3 on each consumer says it itself.
  const tells = tellsFailureFromRelease(version) || consumerTimeoutMs === BROKER_CONSUMER_TIMEOUT_MS
  return {
    fixed: {
      'queue-type': queueType,
      ...(ordered && { 'single-active-consumer': true }),
      ...delays,
    },
    settings: {
      overflow: 'reject-publish',
      ...limits,
      ...(!tells && { 'consumer-timeout': consumerTimeoutMs }),
    },
  }
}

/**
 * Nothing ever leaves it by itself: up to 4.2 looking into it counts as a delivery. A limit that is
 * never reached, and not none at all: without one, 4.0 gives back what was looked at out of order.
 */
function deadQueue(name: string): WantedQueue {
  return {
    kind: 'queue',
    name,
    family: name,
    role: 'dead',
    mapped: false,
    fixed: { 'queue-type': 'quorum' },
    settings: { overflow: 'reject-publish', 'delivery-limit': NEVER_REACHED },
  }
}

/**
 * A message keeps its routing key in there, which is the queue it returns to through the default
 * exchange; the fanout exchange in front takes any routing key.
 */
function wantedOfLevel(plan: Plan, group: string, levelMs: number): readonly Wanted[] {
  const name = plan.names.retry(group, levelMs)
  return [
    {
      kind: 'queue',
      name,
      family: name,
      role: 'retry',
      mapped: false,
      fixed: { 'queue-type': 'quorum' },
      settings: { ...deadLettersSafely, 'message-ttl': levelMs, 'dead-letter-exchange': '' },
    },
    { kind: 'exchange', name, type: 'fanout', mapped: false },
    { kind: 'binding', exchange: name, queue: name, key: '', group, mapped: false },
  ]
}
