import { isDeepStrictEqual } from 'node:util'

import { isHoldfastError } from '../../src/contract/errors.ts'
import type { Finding } from '../../src/contract/topology.ts'
import type { Management, Policy } from './management.ts'
import type { WantedQueue } from './wanted.ts'

/** Above policies that nobody gave a priority: of all that match a queue, the broker applies one. */
const PRIORITY = 1

/** Name of the policy for a queue and its partitions. */
function policyName({ family }: WantedQueue): string {
  return `holdfast.${family}`
}

/** What the queue's settings are as a policy. */
function policyOf({ family, role, settings }: WantedQueue): Policy {
  const partitions = role === 'group' ? '(\\.[0-9]+)?' : ''
  return {
    pattern: `^${family.replaceAll(/[^A-Za-z0-9_-]/g, '\\$&')}${partitions}$`,
    definition: settings,
    priority: PRIORITY,
    'apply-to': 'queues',
  }
}

/** Policies as they were made here, so that the partitions of one group ask once. */
export class Policies {
  readonly #management: Management
  readonly #made = new Map<string, Promise<readonly Finding[]>>()

  constructor(management: Management) {
    this.#management = management
  }

  /**
   * Makes the policy when there is none; one that says something else is left as it is and found.
   * Resolves with `null` when the log-in may not set policies.
   */
  async ensure(queue: WantedQueue): Promise<readonly Finding[] | null> {
    const name = policyName(queue)
    let making = this.#made.get(name)
    if (making === undefined) {
      making = this.#ensure(name, policyOf(queue))
      this.#made.set(name, making)
    }
    try {
      return await making
    } catch (error) {
      this.#made.delete(name)
      if (isHoldfastError(error) && error.code === 'rejected') return null
      throw error
    }
  }

  /** Asks anew from now on: somebody may have removed one. */
  forget(): void {
    this.#made.clear()
  }

  async #ensure(name: string, policy: Policy): Promise<readonly Finding[]> {
    const found = await this.#management.policy(name)
    if (found === null) {
      await this.#management.putPolicy(name, policy)
      return []
    }
    const same =
      isDeepStrictEqual(found.definition, policy.definition) && found.pattern === policy.pattern
    return same ? [] : [different(name, policy, found)]
  }
}

function different(name: string, declared: Policy, found: Policy): Finding {
  return {
    severity: 'warning',
    code: 'rabbitmq.policy',
    subject: name,
    message:
      'the policy says something else than the options: set it to what is declared, or set the options to what is found',
    declared: shown(declared),
    found: shown(found),
  }
}

function shown({ pattern, definition }: Policy): string {
  return JSON.stringify({ pattern, definition })
}
