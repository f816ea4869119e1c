import { setMaxListeners } from 'node:events'

import type { Broker, BrokerState, Deadline } from '../contract/broker.ts'
import type { Capabilities } from '../contract/capabilities.ts'
import type { Clock, Random } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import type { Emit, EventType, HoldfastEvent } from '../contract/events.ts'
import {
  ClosedError,
  HoldfastError,
  isHoldfastError,
  StorageError,
  type ErrorCode,
} from '../contract/errors.ts'
import type { Finding, TopicTopology, TopologyMode } from '../contract/topology.ts'
import { exponential } from '../policy/backoff.ts'
import { withDeadline } from '../policy/deadline.ts'
import { Limiter } from '../policy/limiter.ts'
import { retry } from '../policy/retry.ts'

/** What a session needs beside the broker. */
export interface SessionContext {
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
  readonly emit: Emit
}

const DOWN: BrokerState = Object.freeze({ status: 'down', reason: 'not opened yet' })

const PATIENCE = Object.freeze({
  attempts: Number.POSITIVE_INFINITY,
  backoff: exponential({ initialMs: 100, maxMs: 5_000 }),
})
/** Topics the broker is asked about at a time. */
const ASKED_AT_ONCE = 8
/** How long one try may take: an answer that never comes must not be waited for for ever. */
const OPENING_MS = 30_000
const ASKING_MS = 10_000

/** A topology that was asked for, and how far it is on the present connection. */
interface Provisioned {
  readonly topic: TopicTopology
  readonly mode: 'create' | 'verify'
  generation: number
  done: Promise<void> | null
}

/** The one open broker behind all sessions that were given the same broker object. */
export class SharedBroker {
  static readonly #byBroker = new WeakMap<Broker, SharedBroker>()

  readonly #broker: Broker
  readonly #context: SessionContext
  readonly #emits = new Set<Emit>()
  readonly #listeners = new Set<(state: BrokerState) => void>()
  readonly #topics = new Map<string, Provisioned>()
  readonly #abort = new AbortController()
  readonly #asking = new Limiter(ASKED_AT_ONCE)
  readonly #stopListening: () => void
  readonly #emit: Emit
  #members = 0
  #state: BrokerState = DOWN
  #generation = 0
  #capabilities: Capabilities | null = null
  #opening: Promise<Capabilities> | null = null

  private constructor(broker: Broker, context: SessionContext) {
    this.#broker = broker
    this.#context = context
    this.#emit = this.#fanOut()
    // Every topic that waits listens.
    setMaxListeners(0, this.#abort.signal)
    this.#stopListening = broker.onState((state) => this.#onState(state))
  }

  static of(broker: Broker, context: SessionContext): SharedBroker {
    let shared = SharedBroker.#byBroker.get(broker)
    if (shared === undefined) {
      shared = new SharedBroker(broker, context)
      SharedBroker.#byBroker.set(broker, shared)
    }
    return shared
  }

  get capabilities(): Capabilities | null {
    return this.#capabilities
  }

  get state(): BrokerState {
    return this.#state
  }

  get generation(): number {
    return this.#generation
  }

  enter(emit: Emit): void {
    this.#members++
    this.#emits.add(emit)
  }

  async exit(emit: Emit, deadline: Deadline): Promise<void> {
    this.#emits.delete(emit)
    if (--this.#members > 0) return
    SharedBroker.#byBroker.delete(this.#broker)
    this.#abort.abort(new ClosedError('broker session'))
    try {
      const close = (): Promise<void> => this.#broker.close(deadline)
      await withDeadline(this.#context.clock, deadline, close, 'closing the broker')
    } finally {
      this.#stopListening()
      this.#listeners.clear()
    }
  }

  ready(): Promise<Capabilities> {
    if (this.#opening === null) {
      this.#opening = this.#open()
      this.#opening.catch(() => void (this.#opening = null))
    }
    return this.#opening
  }

  onState(listener: (state: BrokerState) => void): () => void {
    this.#listeners.add(listener)
    listener(this.#state)
    return () => void this.#listeners.delete(listener)
  }

  async provision(topics: readonly TopicTopology[], mode: TopologyMode): Promise<void> {
    await this.ready()
    if (mode === 'none') return this.#broker.assume?.({ topics })
    await Promise.all(topics.map((topic) => this.#provisioned(topic, mode)))
  }

  async #open(): Promise<Capabilities> {
    this.#abort.signal.throwIfAborted()
    const { clock, random, crash } = this.#context
    const { signal } = this.#abort
    const context = { clock, random, crash, emit: this.#emit, signal }
    const open = (): Promise<Capabilities> => this.#broker.open(context)
    this.#capabilities = await this.#retried('opening', OPENING_MS, open)
    return this.#capabilities
  }

  #provisioned(topic: TopicTopology, mode: 'create' | 'verify'): Promise<void> {
    const name = `${mode} ${JSON.stringify(topic)}`
    const known = this.#topics.get(name) ?? { topic, mode, generation: -1, done: null }
    this.#topics.set(name, known)
    if (known.done === null || known.generation !== this.#generation) {
      known.generation = this.#generation
      const done = this.#ask(known)
      known.done = done
      // Asked on an earlier connection, its failure says nothing about what was asked since.
      done.catch(() => void (known.done === done && (known.done = null)))
    }
    return known.done
  }

  async #ask({ topic, mode }: Provisioned): Promise<void> {
    const ask = (): Promise<readonly Finding[]> => this.#broker.provision({ topics: [topic] }, mode)
    const what = `provisioning topic "${topic.name}"`
    // A place for each try: topics that wait for their next one keep nobody else from being asked.
    const inTurn = <T>(work: () => Promise<T>): Promise<T> => this.#asking.run(work)
    const findings = await this.#retried(what, ASKING_MS, ask, inTurn)
    const wrong = findings.filter(({ severity }) => severity === 'error')
    if (wrong.length > 0) throw topologyError(topic, wrong)
  }

  /** Until it works, as long as waiting can help; each try has its own time, from when it begins. */
  #retried<T>(
    what: string,
    withinMs: number,
    work: () => Promise<T>,
    around: (work: () => Promise<T>) => Promise<T> = (once) => once(),
  ): Promise<T> {
    const { clock, random } = this.#context
    const { signal } = this.#abort
    const once = (): Promise<T> => withDeadline(clock, clock.now() + withinMs, work, what, signal)
    return retry(() => around(once), {
      ...PATIENCE,
      clock,
      random,
      signal,
      retryable: waitingHelps,
      onRetry: (error) => this.#warn(what, error),
    })
  }

  #onState(state: BrokerState): void {
    const came = this.#state.status === 'down' && state.status !== 'down'
    this.#state = state
    if (came) {
      this.#generation++
      for (const { topic, mode } of this.#topics.values()) {
        this.#provisioned(topic, mode).catch((error: unknown) => {
          this.#warn(`checking topic "${topic.name}" after a reconnect`, error)
        })
      }
    }
    this.#emit({ type: 'broker.state', broker: this.#broker.name, state })
    for (const listener of this.#listeners) listener(state)
  }

  #warn(what: string, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error)
    const message = `${what} on broker ${this.#broker.name} failed: ${why}`
    this.#emit({ type: 'warning', code: 'broker', message })
  }

  #fanOut(): Emit {
    const emits = this.#emits
    const tell = (event: HoldfastEvent): void => {
      for (const emit of emits) emit(event)
    }
    const wants = (type: EventType): boolean => [...emits].some((emit) => emit.wants(type))
    return Object.assign(tell, { wants })
  }
}

function topologyError(topic: TopicTopology, findings: readonly Finding[]): HoldfastError {
  const listed = findings.map(({ code, subject, message }) => `${subject}: ${message} (${code})`)
  return new HoldfastError('topology', `topic "${topic.name}": ${listed.join('; ')}`, {
    topic: topic.name,
  })
}

/** Whether the same call may work later. What holdfast's errors say about options or files stays as it is. */
function waitingHelps(error: unknown): boolean {
  if (!isHoldfastError(error)) return true
  if (error instanceof StorageError) return error.transient
  return passing.has(error.code)
}

const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'connection-lost',
  'unavailable',
  'timeout',
  'unanswered',
  'busy',
  'storage-busy',
])
