import type { Subscription } from '../../src/contract/broker.ts'
import { CapabilityError, HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import type { QueueInfo } from './management.ts'
import type { Opened } from './opened.ts'
import type { Resolved } from './options.ts'
import { dropsAtLimit } from './queue-audit.ts'

type About = Pick<Opened, 'topics' | 'management' | 'context'>

/**
 * Rejects with a `CapabilityError` for what queues cannot give, with code `topology` for queues that
 * would break the promise: ordered ones without a single active consumer, mapped ones that drop.
 */
export async function checkSubscription(
  { topics, group, ordering, from }: Subscription,
  about: About,
  { allowDropOnLimit }: Pick<Resolved, 'allowDropOnLimit'>,
): Promise<void> {
  if (from === 'earliest') {
    const text = `group "${group}": from 'earliest' needs history, which RabbitMQ queues do not keep: use from 'now', the group gets everything from its declaration on`
    throw new CapabilityError(text)
  }
  for (const topic of topics) {
    const plan = about.topics.of(topic)
    const shared = plan.queues(group).find((queue) => plan.shared.has(queue))
    if (ordering !== 'none' && shared !== undefined) throw notOrdered(topic, shared)
    const isMapped = plan.map?.groups?.[group] !== undefined
    if (isMapped && !allowDropOnLimit) await checkMapped(plan.queues(group)[0] as string, about)
  }
}

async function checkMapped(queue: string, { management, context }: About): Promise<void> {
  const info = await infoOf(queue, management)
  if (info !== null) {
    if (dropsAtLimit(info)) throw drops(queue)
    return
  }
  const message = `queue "${queue}" is mapped and could not be looked at: without a dead-letter exchange the broker drops what was delivered too often; give managementUrl, or allowDropOnLimit`
  context.emit({ type: 'warning', code: 'rabbitmq.drop-on-limit', message })
}

/** `null` when nobody can say: a management plugin that is away keeps nobody from consuming. */
async function infoOf(queue: string, management: Opened['management']): Promise<QueueInfo | null> {
  try {
    return (await management?.queue(queue)) ?? null
  } catch (error) {
    if (isHoldfastError(error)) return null
    throw error
  }
}

function notOrdered(topic: string, queue: string): HoldfastError {
  const text = `queue "${queue}" has no single active consumer, so several processes do not keep the order that topic "${topic}" asks for: let it run empty, delete it and start again; or consume with ordering 'none'`
  return new HoldfastError('topology', text, { topic })
}

function drops(queue: string): HoldfastError {
  const text = `queue "${queue}" is mapped and has no dead-letter exchange: the broker drops what was delivered as often as its delivery limit says; give it one by policy, or set allowDropOnLimit: true`
  return new HoldfastError('topology', text)
}
