import { CapabilityError } from '../../src/contract/errors.ts'
import type { Finding, TopicTopology } from '../../src/contract/topology.ts'
import type { BindingInfo } from './management.ts'
import type { Plan } from './topics.ts'
import type { WantedBinding, WantedExchange, WantedQueue } from './wanted.ts'

/** Whether a binding is not among those of its exchange. A mapped one may have any routing key. */
export function isMissingIn(present: readonly BindingInfo[]): (binding: WantedBinding) => boolean {
  return ({ queue, key, mapped }) =>
    !present.some(
      ({ destination, destination_type, routing_key }) =>
        destination_type === 'queue' && destination === queue && (mapped || routing_key === key),
    )
}

/**
 * A number of partitions that differs from what was declared, said or found here before, as a finding.
 * Throws a `CapabilityError` for partitions of a mapped topic.
 */
export function conflictOf(
  plan: Plan,
  { name, groups, partitions }: TopicTopology,
): Finding | null {
  if (partitions !== null && plan.map !== null) {
    throw new CapabilityError(
      `topic "${name}" is mapped to what exists, which has no partitions: leave partitions out, or the mapping`,
      { topic: name },
    )
  }
  if (groups.length === 0 && partitions === null) return null
  if (!plan.isKnown || plan.partitions === partitions) return null
  return {
    severity: 'error',
    code: 'rabbitmq.partitions',
    subject: name,
    message: 'this process has two different numbers of partitions for the topic',
    declared: String(partitions ?? 'none'),
    found: String(plan.partitions ?? 'none'),
  }
}

/** What is not there. */
export function missing(wanted: WantedExchange | WantedQueue): Finding {
  const { kind, name, mapped } = wanted
  const advice = mapped ? 'it is mapped, so it has to exist' : "use topology: 'create' once"
  return {
    severity: 'error',
    code: `rabbitmq.${kind}-missing`,
    subject: name,
    message: `the ${kind} is not there: ${advice}`,
  }
}

/** A queue that does not get what is published. */
export function missingBinding({ exchange, queue, key, group }: WantedBinding): Finding {
  return {
    severity: 'error',
    code: 'rabbitmq.binding-missing',
    subject: `${exchange} → ${queue}`,
    message: `group "${group}" does not get what is published: bind the queue with "${key}", or use topology: 'create' once`,
  }
}

/** It is there, and whether it is as it has to be could not be settled now. */
export function notDeclared(name: string, { message }: Error): Finding {
  return {
    severity: 'warning',
    code: 'rabbitmq.not-declared',
    subject: name,
    message: `it could not be declared now, and is used as it is: ${message}`,
  }
}

/** Nobody could say which bindings there are. */
export function unseen(exchange: string, isAsked: boolean): Finding {
  const why = isAsked ? 'the management API did not say' : 'only the management API can list them'
  return {
    severity: 'warning',
    code: 'rabbitmq.bindings-unseen',
    subject: exchange,
    message: `bindings were not verified, ${why}: give managementUrl, or use topology: 'create'`,
  }
}

/** A queue of another number of partitions. */
export function leftoverFinding(name: string, partitions: number | null): Finding {
  const declared = partitions === null ? 'no partitions' : `${partitions} partitions`
  return {
    severity: 'warning',
    code: 'rabbitmq.queue-left',
    subject: name,
    message: `the queue is left of another number of partitions, and nobody reads it: let it run empty, and delete it`,
    declared,
    found: name,
  }
}

/** About the same thing. */
export function sameFinding(one: Finding, other: Finding): boolean {
  return one.code === other.code && one.subject === other.subject
}
