import type { Finding } from '../../src/contract/topology.ts'
import { differenceFinding } from './differences.ts'
import type { NodeInfo, QueueInfo } from './management.ts'
import { differencesOf, effectiveSettings } from './queue-settings.ts'
import type { Setting, WantedQueue } from './wanted.ts'

/** Copies that survive the loss of a node and go on. */
const SAFE_MEMBERS = 3

/** What is weak about a queue, by argument or policy, whoever made it. */
export function auditQueue(
  queue: WantedQueue,
  info: QueueInfo,
  nodes: readonly NodeInfo[],
  allowDropOnLimit: boolean,
): readonly Finding[] {
  const own = queue.mapped
    ? auditMapped(queue, info, allowDropOnLimit)
    : differencesOf(queue, info).map((one) => differenceFinding(queue, one, allowDropOnLimit))
  return [...own, ...auditLength(queue, info), ...auditMembers(queue, info, nodes)]
}

/** Whether the broker drops what was delivered too often: a quorum queue without a dead-letter exchange. */
export function dropsAtLimit(info: QueueInfo): boolean {
  const settings = effectiveSettings(info)
  const limit = settings.get('delivery-limit')
  const isUnlimited = typeof limit === 'number' && limit < 0
  return info.type === 'quorum' && !isUnlimited && !settings.has('dead-letter-exchange')
}

function auditMapped(
  queue: WantedQueue,
  info: QueueInfo,
  allowDropOnLimit: boolean,
): readonly Finding[] {
  const settings = effectiveSettings(info)
  const findings: Finding[] = []
  const add = (severity: Finding['severity'], setting: string, found: Setting, message: string) => {
    const code = `rabbitmq.queue-${setting}`
    findings.push({ severity, code, subject: queue.name, message, found: String(found) })
  }
  if (info.type !== undefined && info.type !== 'quorum') {
    const text =
      'not a quorum queue: what is in it is lost with its node, and failed deliveries are not counted'
    add('warning', 'queue-type', info.type, text)
  }
  if (info.durable === false) add('error', 'durable', false, 'a restart takes the queue with it')
  if (info.auto_delete === true) {
    add('error', 'auto-delete', true, 'the queue goes with its last consumer')
  }
  for (const setting of ['message-ttl', 'expires']) {
    const found = settings.get(setting)
    if (found !== undefined) add('warning', setting, found, 'confirmed messages leave it unread')
  }
  if (dropsAtLimit(info)) {
    const text =
      'messages are dropped at the delivery limit: give the queue a dead-letter exchange by policy'
    const limit = settings.get('delivery-limit') ?? 20
    add(allowDropOnLimit ? 'warning' : 'error', 'delivery-limit', limit, text)
  }
  return findings
}

function auditLength(queue: WantedQueue, info: QueueInfo): readonly Finding[] {
  const settings = effectiveSettings(info)
  const limit = settings.get('max-length') ?? settings.get('max-length-bytes')
  if (limit === undefined) return []
  const isSafe = settings.get('overflow') === 'reject-publish'
  return [
    {
      severity: isSafe ? 'info' : 'error',
      code: 'rabbitmq.queue-max-length',
      subject: queue.name,
      message: isSafe
        ? 'a full queue refuses what is published: publishes end unknown (nacked) until it is drained'
        : 'a full queue drops the oldest confirmed messages: set overflow to reject-publish',
      found: String(limit),
    },
  ]
}

function auditMembers(
  queue: WantedQueue,
  { members, online }: QueueInfo,
  nodes: readonly NodeInfo[],
): readonly Finding[] {
  const findings: Finding[] = []
  const count = members?.length ?? 0
  if (count > 0 && count < SAFE_MEMBERS && nodes.length >= SAFE_MEMBERS) {
    findings.push({
      severity: 'warning',
      code: 'rabbitmq.queue-members',
      subject: queue.name,
      message: `fewer copies than nodes could hold: rabbitmq-queues grow`,
      declared: `at least ${SAFE_MEMBERS}`,
      found: String(count),
    })
  }
  if (count > 0 && online !== undefined && online.length < count) {
    findings.push({
      severity: 'warning',
      code: 'rabbitmq.queue-members-online',
      subject: queue.name,
      message: 'copies are away: one more loss may stop the queue',
      declared: String(count),
      found: String(online.length),
    })
  }
  return findings
}
