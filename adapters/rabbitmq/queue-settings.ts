import { NONE, type Difference } from './differences.ts'
import type { QueueInfo } from './management.ts'
import type { Setting, WantedQueue } from './wanted.ts'

/** Settings that decide about messages although nobody asked for them. */
const unasked = ['message-ttl', 'expires', 'dead-letter-exchange', 'dead-letter-routing-key']

/** What a queue does, whether by argument or policy; both set: the broker takes the smaller number, else the argument. */
export function effectiveSettings(info: QueueInfo): ReadonlyMap<string, Setting> {
  const settings = new Map<string, Setting>()
  const byPolicy = info.effective_policy_definition ?? {}
  for (const [name, value] of Object.entries(byPolicy)) settings.set(name, value)
  for (const [argument, value] of Object.entries(info.arguments ?? {})) {
    const name = argument.startsWith('x-') ? argument.slice(2) : argument
    const policy = settings.get(name)
    const both = typeof policy === 'number' && typeof value === 'number'
    settings.set(name, both ? Math.min(policy, value) : value)
  }
  if (info.type !== undefined) settings.set('queue-type', info.type)
  return settings
}

/** Whether its policies are known, and not only its arguments. */
export function showsPolicies(info: QueueInfo): boolean {
  return info.effective_policy_definition !== undefined
}

/** Where a queue is not as it has to be, by argument or policy. */
export function differencesOf(queue: WantedQueue, info: QueueInfo): readonly Difference[] {
  const found = effectiveSettings(info)
  const wanted: Readonly<Record<string, Setting>> = { ...queue.fixed, ...queue.settings }
  const names = new Set([...Object.keys(wanted), ...unasked.filter((name) => found.has(name))])
  if (found.get('single-active-consumer') === true) names.add('single-active-consumer')
  const argumentsOnly = !showsPolicies(info)
  const differences: Difference[] = attributesOf(info)
  for (const setting of names) {
    if (wanted[setting] !== found.get(setting)) {
      const one = difference(setting, wanted[setting], found.get(setting))
      differences.push({ ...one, argumentsOnly: argumentsOnly && setting !== 'queue-type' })
    }
  }
  return differences
}

function attributesOf({ durable, auto_delete, exclusive }: QueueInfo): Difference[] {
  const differences: Difference[] = []
  if (durable === false) differences.push(difference('durable', true, false))
  if (auto_delete === true) differences.push(difference('auto-delete', false, true))
  if (exclusive === true) differences.push(difference('exclusive', false, true))
  return differences
}

function difference(
  setting: string,
  declared: Setting | undefined,
  found: Setting | undefined,
): Difference {
  return {
    setting,
    declared: String(declared ?? NONE),
    found: String(found ?? NONE),
    argumentsOnly: false,
  }
}
