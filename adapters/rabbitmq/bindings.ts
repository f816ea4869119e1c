import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { UnroutableError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Finding, TopicTopology, Topology } from '../../src/contract/topology.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Wake } from '../../src/policy/wake.ts'
import { isPassing, REPLY, replyCodeOf } from './errors.ts'
import { exists } from './declare.ts'
import { isMissingIn } from './found.ts'
import type { Management } from './management.ts'
import type { Operations } from './operations.ts'
import type { Plan } from './topics.ts'
import { bindingsOf, type WantedBinding, type WantedExchange, type WantedQueue } from './wanted.ts'

/** What verification needs. */
export interface BindingsOptions {
  readonly operations: Operations
  readonly management: Management | null
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  /** How often, in milliseconds, unless something reconnects. */
  readonly everyMs: number
  /** Where retries and dead letters of a topic go: ours always. */
  readonly companions: (plan: Plan, topology: TopicTopology) => readonly Companion[]
  /** Makes what is missing, in mode 'create'. */
  readonly heal: (topology: Topology, mode: 'create') => Promise<readonly Finding[]>
  /** Something became missing, or is there again. */
  readonly changed: () => void
}

type Companion = WantedExchange | WantedQueue

/** A topic that is looked after. */
interface Watched {
  readonly plan: Plan
  readonly topology: TopicTopology
  readonly mode: 'create' | 'verify'
  /** Companions that were told to be gone. */
  readonly gone: Set<string>
}

/**
 * Looks whether every declared group still gets what is published. While one does not, publishes to
 * the topic are refused: they would be confirmed and reach the others only. In mode 'create' what is
 * missing is made again.
 */
export class Bindings {
  readonly #options: BindingsOptions
  readonly #wake: Wake
  readonly #watched = new Map<string, Watched>()
  #state: 'idle' | 'running' | 'stopped' = 'idle'
  #running: Promise<void> = Promise.resolve()

  constructor(options: BindingsOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  /** The first group known to miss its messages, as a reason; `null` when there is none. */
  get missing(): string | null {
    for (const { plan } of this.#watched.values()) {
      if (plan.unbound !== null) return plan.unbound.message
    }
    return null
  }

  /** A topic that was provisioned without errors; groups and levels of all who did add up. */
  watch(plan: Plan, topology: TopicTopology, mode: 'create' | 'verify'): void {
    const known = this.#watched.get(plan.topic)
    const merged = known === undefined ? topology : merge(known.topology, topology)
    const either = known?.mode === 'create' ? 'create' : mode
    this.#watched.set(plan.topic, {
      plan,
      topology: merged,
      mode: either,
      gone: known?.gone ?? new Set(),
    })
    if (plan.unbound !== null) this.soon()
  }

  start(): void {
    if (this.#state !== 'idle') return
    this.#state = 'running'
    this.#running = this.#run()
  }

  /** Looks now: something was away, and who knows what happened meanwhile. */
  soon(): void {
    this.#wake.ring()
  }

  /** Never rejects. Idempotent. */
  async stop(deadline: Deadline): Promise<void> {
    this.#state = 'stopped'
    this.#wake.ring()
    const ending = withDeadline(this.#options.clock, deadline, () => this.#running, 'verification')
    await ending.catch(() => undefined)
  }

  async #run(): Promise<void> {
    const { everyMs, random } = this.#options
    while (this.#isRunning()) {
      // Not all processes at the same time.
      await this.#wake.sleep(everyMs * (0.9 + 0.2 * random.next()))
      for (const watched of [...this.#watched.values()]) {
        if (this.#isRunning()) await this.#verify(watched)
      }
    }
  }

  async #verify(watched: Watched): Promise<void> {
    const { plan, topology, mode } = watched
    try {
      const missing = await this.#missing(watched)
      if (missing.length > 0) {
        this.#set(plan, unbound(plan.topic, missing))
        if (mode === 'create') await this.#heal(watched)
      } else if (plan.unbound !== null) {
        this.#set(plan, null)
      }
      await this.#lookBehind(watched)
    } catch (error) {
      // Nothing is known then; what was known stays.
      const why = error instanceof Error ? error.message : String(error)
      const message = `bindings of topic "${topology.name}" could not be verified: ${why}`
      this.#options.emit({ type: 'warning', code: 'rabbitmq.bindings', message })
    }
  }

  /** Nothing is lost while they are gone, but retries and dead letters wait for them in their group. */
  async #lookBehind({ plan, topology, mode, gone }: Watched): Promise<void> {
    for (const wanted of this.#options.companions(plan, topology)) {
      const { kind, name } = wanted
      if (!(await this.#isMissing(wanted))) gone.delete(name)
      else if (mode === 'create') await this.#makeAgain(wanted, topology)
      else if (!gone.has(name)) {
        gone.add(name)
        this.#tellGone(kind, name, "make it again, or use topology: 'create'")
      }
    }
  }

  async #makeAgain(wanted: Companion, topology: TopicTopology): Promise<void> {
    await this.#options.heal({ topics: [topology] }, 'create')
    if (await this.#isMissing(wanted)) return
    this.#tellGone(wanted.kind, wanted.name, 'it was made again')
  }

  async #isMissing(wanted: Companion): Promise<boolean> {
    return (await exists(this.#options.operations, wanted)) === 'missing'
  }

  #tellGone(kind: string, name: string, then: string): void {
    const message = `${kind} "${name}" is gone, and with it what was in it: ${then}`
    this.#options.emit({ type: 'warning', code: 'rabbitmq.companion-missing', message })
  }

  async #heal(watched: Watched): Promise<void> {
    const findings = await this.#options.heal({ topics: [watched.topology] }, 'create')
    const isStuck = findings.some(({ severity }) => severity === 'error')
    if (isStuck || (await this.#missing(watched)).length > 0) return
    const { topic } = watched.plan
    const message = `what was missing of topic "${topic}" was made again; what was published meanwhile did not reach it`
    this.#options.emit({ type: 'warning', code: 'rabbitmq.bindings-made', message })
    this.#set(watched.plan, null)
  }

  /** What does not get its messages. Rejects when nobody can say. */
  async #missing({ plan, topology, mode }: Watched): Promise<readonly WantedBinding[]> {
    const bindings = topology.groups.flatMap((group) => bindingsOf(plan, group))
    const { management } = this.#options
    if (bindings.length === 0) return []
    if (management !== null) {
      return bindings.filter(isMissingIn((await management.bindings(plan.exchange)) ?? []))
    }
    const missing: WantedBinding[] = []
    for (const binding of bindings) {
      if (await this.#isGone(binding, mode)) missing.push(binding)
    }
    return missing
  }

  /**
   * AMQP cannot list bindings: a queue that is gone shows, one that was unbound only in mode 'create',
   * where binding it again is harmless and heals it at once.
   */
  async #isGone({ queue, exchange, key, mapped }: WantedBinding, mode: string): Promise<boolean> {
    try {
      await this.#options.operations.raw<unknown>(`verifying queue "${queue}"`, (channel) =>
        mode === 'create' && !mapped
          ? channel.bindQueue(queue, exchange, key)
          : channel.checkQueue(queue),
      )
      return false
    } catch (error) {
      if (replyCodeOf(error) === REPLY.notFound && !isPassing(error)) return true
      throw error
    }
  }

  #set(plan: Plan, error: UnroutableError | null): void {
    const before = plan.unbound
    plan.unbound = error
    if (before?.message === error?.message) return
    if (error !== null) {
      const { message } = error
      this.#options.emit({ type: 'warning', code: 'rabbitmq.bindings-missing', message })
    }
    this.#options.changed()
  }

  #isRunning(): boolean {
    return this.#state === 'running'
  }
}

function merge(one: TopicTopology, other: TopicTopology): TopicTopology {
  return {
    name: one.name,
    groups: [...new Set([...one.groups, ...other.groups])],
    partitions: one.partitions ?? other.partitions,
    ordering: one.ordering === 'none' ? other.ordering : one.ordering,
    retryLevelsMs: [...new Set([...one.retryLevelsMs, ...other.retryLevelsMs])],
  }
}

/** Retryable: the binding may come back, and the message was stored nowhere. */
function unbound(topic: string, missing: readonly WantedBinding[]): UnroutableError {
  const groups = [...new Set(missing.map(({ group }) => group))]
  const named = groups.map((group) => `"${group}"`).join(', ')
  const [first] = missing as [WantedBinding]
  const text = `topic "${topic}": group ${named} would not get it, since queue "${first.queue}" is not bound to exchange "${first.exchange}" with "${first.key}": bind it again, use topology: 'create', or take the group out of topics.${topic}.groups`
  return new UnroutableError(text, { topic, retryable: true })
}
