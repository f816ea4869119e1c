import { isHoldfastError, type HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Finding, TopicTopology, Topology } from '../../src/contract/topology.ts'
import type { Version } from './capabilities.ts'
import { declare, exchangeFinding, exists, type Declared } from './declare.ts'
import {
  conflictOf,
  isMissingIn,
  leftoverFinding,
  missing,
  missingBinding,
  notDeclared,
  sameFinding,
  unseen,
} from './found.ts'
import { differenceFinding, type Difference } from './differences.ts'
import type { Management } from './management.ts'
import { checkNames } from './names-of.ts'
import type { Operations } from './operations.ts'
import type { Resolved } from './options.ts'
import { Policies } from './policies.ts'
import { differencesOf, showsPolicies } from './queue-settings.ts'
import type { Plan, TopicTable } from './topics.ts'
import { wantedOf, type Wanted, type WantedExchange, type WantedQueue } from './wanted.ts'

/** What provisioning needs. */
export interface ProvisionerOptions {
  readonly operations: Operations
  readonly management: Management | null
  readonly topics: TopicTable
  readonly options: Resolved
  readonly version: () => Version
  readonly emit: Emit
}

/** What the steps of one topic share. */
interface Course {
  readonly plan: Plan
  readonly findings: Finding[]
  /** Set once the broker could not declare: the rest is only looked at, and has to be there. */
  passing: Error | null
}

/** Makes or verifies what topics need. One entity at a time, on a wire that nobody publishes on. */
export class Provisioner {
  readonly #options: ProvisionerOptions
  readonly #policies: Policies | null
  readonly #warned = new Set<string>()

  constructor(options: ProvisionerOptions) {
    this.#options = options
    this.#policies = options.management === null ? null : new Policies(options.management)
  }

  /**
   * What is wrong, as findings; those of severity warning are told as events too. Rejects when the
   * broker cannot be asked, or when a topic cannot be had this way at all.
   */
  async provision({ topics }: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    this.#policies?.forget()
    const findings: Finding[] = []
    for (const topic of topics) findings.push(...(await this.#topic(topic, mode)))
    for (const finding of findings) if (finding.severity === 'warning') this.#warn(finding)
    return findings
  }

  async #topic(topology: TopicTopology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    const { topics, options, version } = this.#options
    checkNames(options.prefix, topology)
    const conflict = conflictOf(topics.of(topology.name), topology)
    if (conflict !== null) return [conflict]
    const plan = topics.declare(topology)
    const course: Course = { plan, findings: [], passing: null }
    for (const wanted of wantedOf(plan, topology, { ...options, version: version() })) {
      if (mode === 'create' && !wanted.mapped) await this.#make(wanted, course)
      else await this.#look(wanted, course)
    }
    if (mode === 'verify') await this.#verifyBindings(topology, course)
    await this.#leftovers(topology, course)
    return course.findings
  }

  async #make(wanted: Wanted, course: Course): Promise<void> {
    if (course.passing !== null) return this.#look(wanted, course)
    if (wanted.kind === 'queue') return this.#makeQueue(wanted, course)
    const declared = await declare(this.#options.operations, wanted, false)
    if (declared.status === 'passing') return this.#lookFromNowOn(wanted, declared.error, course)
    if (wanted.kind === 'exchange' && declared.status === 'different') {
      for (const difference of declared.differences) {
        course.findings.push(exchangeFinding(wanted, difference))
      }
    }
  }

  async #makeQueue(queue: WantedQueue, course: Course): Promise<void> {
    const byPolicy = await this.#policy(queue, course)
    if (typeof byPolicy !== 'boolean') return this.#useAsItIs(queue, byPolicy, course)
    const declared = await declare(this.#options.operations, queue, byPolicy)
    if (declared.status === 'passing') return this.#lookFromNowOn(queue, declared.error, course)
    const isQuorum = declared.status === 'ok' && queue.fixed['queue-type'] === 'quorum'
    if (isQuorum) course.plan.quorum.add(queue.name)
    else course.plan.quorum.delete(queue.name)
    return this.#compare(queue, declared, byPolicy, course)
  }

  /** Whether the queue's settings come from a policy, there or just made; or why nobody can say now. */
  async #policy(queue: WantedQueue, { findings }: Course): Promise<boolean | HoldfastError> {
    if (this.#policies === null || Object.keys(queue.settings).length === 0) return false
    try {
      const found = await this.#policies.ensure(queue)
      if (found === null) return this.#withoutPolicy(queue)
      findings.push(...found.filter((one) => !findings.some((other) => sameFinding(one, other))))
      return true
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'unavailable') return error
      throw error
    }
  }

  #withoutPolicy({ family }: WantedQueue): boolean {
    this.#warn({
      severity: 'warning',
      code: 'rabbitmq.policy',
      subject: family,
      message:
        'the log-in of managementUrl may not set policies (tag policymaker): settings are fixed arguments instead',
    })
    return false
  }

  async #compare(
    queue: WantedQueue,
    declared: Declared,
    byPolicy: boolean,
    { plan, findings }: Course,
  ): Promise<void> {
    let differences: readonly Difference[] = []
    if (declared.status === 'different') {
      differences = declared.differences
    }
    if (declared.status === 'different' || byPolicy) {
      differences = (await this.#inspected(queue, declared.status === 'ok')) ?? differences
    }
    this.#found(queue, differences, plan, findings)
  }

  #found(
    queue: WantedQueue,
    differences: readonly Difference[],
    plan: Plan,
    findings: Finding[],
  ): void {
    const lacks = differences.some(
      ({ setting, found }) => setting === 'single-active-consumer' && found !== 'true',
    )
    if (lacks) plan.shared.add(queue.name)
    else plan.shared.delete(queue.name)
    const { allowDropOnLimit } = this.#options.options
    for (const one of differences) findings.push(differenceFinding(queue, one, allowDropOnLimit))
  }

  /** All differences, policies included; `null` when the management plugin cannot be asked, or cannot say more than the declaration did. */
  async #inspected(queue: WantedQueue, isSame = false): Promise<readonly Difference[] | null> {
    const info = await this.#asked((management) => management.queue(queue.name))
    if (info === null || (isSame && !showsPolicies(info))) return null
    return differencesOf(queue, info)
  }

  /** The broker could not say now: a majority is away, or a leader. What is there already is enough. */
  async #lookFromNowOn(wanted: Wanted, error: HoldfastError, course: Course): Promise<void> {
    course.passing = error
    if (wanted.kind === 'binding') course.findings.push(notDeclared(wanted.queue, error))
    else await this.#useAsItIs(wanted, error, course)
  }

  /** Rejects with why it could not be declared when it is not there. */
  async #useAsItIs(
    wanted: WantedExchange | WantedQueue,
    error: HoldfastError,
    { findings }: Course,
  ): Promise<void> {
    const found = await exists(this.#options.operations, wanted)
    if (found !== 'there') throw error
    findings.push(notDeclared(wanted.name, error))
  }

  async #look(wanted: Wanted, { plan, findings, passing }: Course): Promise<void> {
    if (wanted.kind === 'binding') return
    const found = await exists(this.#options.operations, wanted)
    if (found === 'missing' && passing !== null && !wanted.mapped) throw passing
    if (found === 'missing') findings.push(missing(wanted))
    if (found !== 'there' || wanted.kind !== 'queue' || wanted.mapped) return
    const differences = await this.#inspected(wanted)
    if (differences !== null) this.#found(wanted, differences, plan, findings)
  }

  async #verifyBindings(topology: TopicTopology, course: Course): Promise<void> {
    const { plan, findings } = course
    const { options, version } = this.#options
    const wanted = wantedOf(plan, topology, { ...options, version: version() })
    const bindings = wanted.filter((one) => one.kind === 'binding')
    const exchanges = new Set(bindings.map(({ exchange }) => exchange))
    for (const exchange of exchanges) {
      const present = await this.#asked((management) => management.bindings(exchange))
      const own = bindings.filter((binding) => binding.exchange === exchange)
      if (present !== null) findings.push(...own.filter(isMissingIn(present)).map(missingBinding))
      else findings.push(unseen(exchange, this.#options.management !== null))
    }
  }

  /** Queues of another number of partitions would go on collecting messages, or keep the ones they have. */
  async #leftovers({ groups, partitions }: TopicTopology, course: Course): Promise<void> {
    const { plan, findings } = course
    for (const group of groups) {
      if (plan.map?.groups?.[group] !== undefined) continue
      const names =
        partitions === null
          ? [plan.names.partition(group, 0)]
          : [plan.names.queue(group), plan.names.partition(group, partitions)]
      for (const name of names) {
        const queue = leftover(name)
        const found = await exists(this.#options.operations, queue)
        if (found === 'there') findings.push(leftoverFinding(name, partitions))
      }
    }
  }

  /** The answer, or `null` where the management plugin is not configured or cannot be asked. */
  async #asked<T>(ask: (management: Management) => Promise<T | null>): Promise<T | null> {
    const { management } = this.#options
    if (management === null) return null
    try {
      return await ask(management)
    } catch (error) {
      if (!isHoldfastError(error)) throw error
      const { message } = error
      this.#warn({ severity: 'warning', code: 'rabbitmq.management', subject: '', message })
      return null
    }
  }

  #warn({ code, subject, message }: Finding): void {
    const about = `${code} ${subject}`
    if (this.#warned.has(about)) return
    if (this.#warned.size < MOST_WARNED) this.#warned.add(about)
    this.#options.emit({
      type: 'warning',
      code,
      message: subject ? `${subject}: ${message}` : message,
    })
  }
}

/** Warnings remembered, so that each is told once. */
const MOST_WARNED = 1_000

function leftover(name: string): WantedQueue {
  return { kind: 'queue', name, family: name, role: 'group', mapped: true, fixed: {}, settings: {} }
}
