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
  options: Pick<Resolved, 'allowDropOnLimit'>,
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
    const isOrdered = ordering !== 'none'
    if (!isMapped || (options.allowDropOnLimit && !isOrdered)) continue
    await checkMapped({ topic, queue: plan.queues(group)[0] as string, isOrdered }, about, options)
  }
}

interface Mapped {
  readonly topic: string
  readonly queue: string
  readonly isOrdered: boolean
}

async function checkMapped(
  { topic, queue, isOrdered }: Mapped,
  { management, context }: About,
  { allowDropOnLimit }: Pick<Resolved, 'allowDropOnLimit'>,
): Promise<void> {
  const info = await infoOf(queue, management)
  if (info === null) {
    for (const [code, text] of unseen(queue, isOrdered, allowDropOnLimit)) {
      context.emit({ type: 'warning', code, message: text })
    }
    return
  }
  if (!allowDropOnLimit && dropsAtLimit(info)) throw drops(queue)
  const isSingle = info.arguments?.['x-single-active-consumer'] === true
  if (isOrdered && !isSingle) throw notOrdered(topic, queue)
}

/** What may be wrong with a mapped queue that could not be looked at: code and text. */
function unseen(
  queue: string,
  isOrdered: boolean,
  allowDropOnLimit: boolean,
): readonly (readonly [string, string])[] {
  const found: (readonly [string, string])[] = []
  const text = `queue "${queue}" is mapped and could not be looked at`
  if (!allowDropOnLimit) {
    const drop = `${text}: without a dead-letter exchange the broker drops what was delivered too often; give managementUrl, or allowDropOnLimit`
    found.push(['rabbitmq.drop-on-limit', drop])
  }
  if (isOrdered) {
    const order = `${text}: without a single active consumer several processes do not keep the order of a key; give managementUrl, or consume with ordering 'none'`
    found.push(['rabbitmq.order-unseen', order])
  }
  return found
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
