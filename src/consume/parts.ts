import type { Receiver } from '../contract/broker.ts'
import type { Capabilities } from '../contract/capabilities.ts'
import type { Clock } from '../contract/clock.ts'
import type { HoldfastError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import type { InboxStore } from '../contract/store.ts'
import type { TopicTopology } from '../contract/topology.ts'
import { UuidSource } from '../contract/uuid.ts'
import { type Breaker, circuitBreaker } from '../policy/circuit-breaker.ts'
import { DeadlineWatch } from '../policy/deadline-watch.ts'
import { Dispatcher } from '../send/deliver.ts'
import type { Session } from '../send/session.ts'
import { Aging } from './aging.ts'
import { type Claims, InboxClaims, NoClaims, type Work } from './claim.ts'
import type { AnyTopic } from './consumed-topic.ts'
import type { Terms } from './decide.ts'
import type { Execution } from './execution.ts'
import { handleEach } from './handle.ts'
import { handleBatch } from './handle-batch.ts'
import type { Held } from './held.ts'
import { HoldLimits } from './hold-limits.ts'
import { Holdings } from './holdings.ts'
import { Idle } from './idle.ts'
import { Intake } from './intake.ts'
import { Lanes } from './lanes.ts'
import type { OpenOptions } from './open.ts'
import type { Pauses } from './pauses.ts'
import { Publications } from './publications.ts'
import { Pump } from './pump.ts'
import { Settler } from './settle.ts'
import type { Settings } from './settings.ts'
import { Starts } from './starts.ts'
import { STORE_MS, storeTime } from './store-time.ts'
import { Told } from './told.ts'
import { AtomicClaims } from './transact.ts'
import type { Eventually } from './value-or-promise.ts'

/** What the parts call back. */
export interface Steps {
  process(parts: Parts, slice: readonly Held[], generation: number): Eventually<void>
  broken(parts: Parts, slice: readonly Held[], thrown: unknown): void
  ended(error: HoldfastError | undefined): void
}

/** What the parts share. */
export interface Surroundings {
  readonly settings: Settings
  readonly session: Session
  readonly capabilities: Capabilities
  readonly pauses: Pauses
  readonly emit: Emit
  /** Aborts when nothing is to be tried again. */
  readonly stopping: AbortSignal
  /** Known once it is received. */
  readonly receiver: () => Receiver | null
  readonly steps: Steps
}

/** Longest the broker's own transaction may take. */
const TRANSACT_MS = 30_000

/** What a started consumer is made of, for a broker of these capabilities. Making it does no I/O. */
export class Parts {
  readonly lanes: Lanes
  readonly holdings: Holdings
  readonly dispatcher: Dispatcher<void>
  readonly settler: Settler
  readonly intake: Intake
  readonly pump: Pump
  readonly breaker: Breaker | null
  readonly starts: Starts | null
  readonly claims: Claims
  readonly work: Work
  readonly opening: OpenOptions
  readonly terms: Terms
  readonly aging: Aging
  readonly idle: Idle
  readonly #around: Surroundings
  readonly #told: Told
  readonly #ids: UuidSource
  readonly #watch: DeadlineWatch
  readonly #limits: HoldLimits
  /** Topics that handlers published to. */
  readonly #published = new Map<string, AnyTopic>()

  constructor(around: Surroundings) {
    const { settings, capabilities } = around
    const { clock, random, attempts, onExhausted } = settings
    this.#around = around
    this.#told = new Told(settings.group, clock, around.emit)
    this.#ids = new UuidSource(clock, random)
    this.#watch = new DeadlineWatch(clock)
    this.#limits = this.#newLimits()
    this.lanes = new Lanes(clock, settings.concurrency, this.#limits, () => this.pump.schedule())
    this.holdings = new Holdings(this.lanes)
    this.dispatcher = this.#newDispatcher()
    const within = storeTime(clock)
    this.starts = attempts === null ? null : new Starts(attempts, settings.retry.attempts, within)
    this.breaker = this.#newBreaker()
    this.settler = this.#newSettler()
    this.intake = this.#newIntake()
    this.pump = this.#newPump()
    this.idle = new Idle(() => this.pump.running === 0 && this.settler.storing === 0)
    this.claims = this.#newClaims()
    this.work = this.#newWork()
    this.opening = this.#newOpening()
    this.terms = { ...settings.retry, onExhausted, retryDelay: capabilities.retryDelay }
    this.aging = new Aging(clock, capabilities.hold.maxMs, this.#limits, this.holdings)
  }

  /** The last thing: stops every timer. */
  close(): void {
    this.aging.stop()
    this.lanes.close()
    this.#watch.close()
    this.breaker?.close()
  }

  /** The broker's transactions take contiguous deliveries of one source only. */
  get #isPrefix(): boolean {
    const { settings, capabilities } = this.#around
    return settings.atomic && capabilities.atomicPublish === 'prefix'
  }

  #newLimits(): HoldLimits {
    const { capabilities, settings, pauses, emit } = this.#around
    return new HoldLimits(capabilities, settings.prefetch, {
      full: ({ source }, limit) => {
        pauses.holdSource(source)
        emit({ type: 'lane.full', source: source.name, limit })
      },
      room: ({ source }) => pauses.liftSource(source),
    })
  }

  #newDispatcher(): Dispatcher<void> {
    const { session, settings, emit } = this.#around
    const { clock, random, provision } = settings
    return new Dispatcher<void>({
      session,
      purpose: 'settle',
      result: () => undefined,
      clock,
      random,
      emit,
      prepare: (name) => session.provision([this.#topologyOf(name)], provision),
    })
  }

  /** A topic that a handler publishes to, with the groups that were named for it. */
  #topologyOf(name: string): TopicTopology {
    const { topology, others } = this.#around.settings
    const known = topology.find((topic) => topic.name === name)
    if (known !== undefined) return known
    const ordering = this.#published.get(name)?.ordering ?? 'none'
    return { name, groups: [], partitions: null, retryLevelsMs: [], ...others[name], ordering }
  }

  #newSettler(): Settler {
    const { settings, capabilities, stopping, emit } = this.#around
    const { group, inbox, clock, random, crash } = settings
    return new Settler({
      group,
      told: this.#told,
      lanes: this.lanes,
      holdings: this.holdings,
      native: capabilities.retryDelay === 'native',
      send: (envelope) => this.dispatcher.send(envelope),
      keep: inbox === null ? null : (held) => keep(held, inbox, clock),
      finished: (held) => this.starts?.forget(held),
      stopping,
      onIdle: () => this.idle.look(),
      clock,
      random,
      crash,
      emit,
    })
  }

  #newIntake(): Intake {
    const { settings, pauses, emit, steps } = this.#around
    const { topics, group, clock, crash } = settings
    return new Intake({
      topics,
      group,
      lanePerSource: this.#isPrefix,
      countsStarts: this.starts !== null,
      holdings: this.holdings,
      limits: this.#limits,
      pauses,
      clock,
      crash,
      emit,
      onEnded: (error) => steps.ended(error),
    })
  }

  /** Intake stands still while it is open; half-open, something held finds out, if there is something. */
  #newBreaker(): Breaker | null {
    const { settings, pauses, emit } = this.#around
    if (settings.breaker === null) return null
    const breaker = circuitBreaker(settings.breaker, settings.clock)
    const name = `consumer ${settings.group}`
    breaker.onChange((state) => {
      emit({ type: 'breaker.state', name, state })
      if (state === 'open') pauses.hold('breaker')
      else if (state === 'closed' || this.lanes.ready === 0) pauses.lift('breaker')
      this.pump.schedule()
    })
    return breaker
  }

  #newPump(): Pump {
    const { settings, steps } = this.#around
    return new Pump({
      lanes: this.lanes,
      holdings: this.holdings,
      concurrency: settings.concurrency,
      sliceSize: sliceSizeOf(settings),
      batchWaitMs: settings.batch?.maxWaitMs ?? null,
      oneLane: this.#isPrefix,
      breaker: this.breaker,
      process: (slice, generation) => steps.process(this, slice, generation),
      broken: (slice, thrown) => steps.broken(this, slice, thrown),
      onIdle: () => this.idle.look(),
      clock: settings.clock,
    })
  }

  #newClaims(): Claims {
    const { settings, receiver } = this.#around
    const { inbox, batch, transactionMs, handlerTimeoutMs, clock, atomic } = settings
    if (inbox !== null) {
      const mode = batch === null ? 'each' : 'batch'
      return new InboxClaims({
        inbox,
        mode,
        transactionMs,
        handlerTimeoutMs,
        answerMs: STORE_MS,
        clock,
      })
    }
    if (!atomic) return new NoClaims()
    return new AtomicClaims({ receiver, timeoutMs: TRANSACT_MS, clock })
  }

  #newWork(): Work {
    const { settings, capabilities, emit } = this.#around
    const { call, crash, group, retry, clock, handlerTimeoutMs, batch } = settings
    const publications = this.#newPublications(capabilities)
    const onStuck = ({ together, startedMs }: Execution): void => {
      for (const held of together) this.#told.stuck(held, startedMs)
    }
    const execution = { clock, timeoutMs: handlerTimeoutMs, watch: this.#watch, onStuck }
    const { attempts } = retry
    const isTimed = (): boolean => emit.wants('message.done')
    const handling = { call, crash, group, attempts, publications, execution, isTimed }
    const handle = batch === null ? handleEach : handleBatch
    return (tx, fresh) => handle(fresh, tx, handling)
  }

  #newPublications({ scheduledSend }: Capabilities): Publications {
    const { atomic, outbox, source, clock } = this.#around.settings
    return new Publications({
      mode: atomic ? 'atomic' : outbox === null ? 'broker' : 'outbox',
      sealing: { source, ids: this.#ids, clock },
      outbox,
      scheduledSend,
      send: (envelope) => this.dispatcher.send(envelope),
      onPublish: (topic) => this.#publishes(topic),
      within: storeTime(clock),
    })
  }

  /** Said with the first one: what is not in the effect's transaction may outlive it. */
  #publishes(topic: AnyTopic): void {
    const { settings, emit } = this.#around
    const { inbox, outbox, atomic, group } = settings
    if (this.#published.size === 0 && inbox !== null && outbox === null && !atomic) {
      const message = `handlers of group "${group}" publish outside of their transaction: it is confirmed before their effect is committed, and stays when that is rolled back. To commit both together, give the consumer an outbox in the inbox's database; in a config, name the same file or database for both`
      emit({ type: 'warning', code: 'publish-outside-transaction', message })
    }
    this.#published.set(topic.name, topic)
  }

  #newOpening(): OpenOptions {
    const { settings, emit } = this.#around
    const { group, identify, inbox, requireId, clock } = settings
    const identifies = inbox !== null || this.starts !== null
    const isNeeded = inbox !== null && requireId
    return { group, identify, identifies, requireId: isNeeded, ids: this.#ids, clock, emit }
  }
}

function sliceSizeOf({ batch, inbox, atomic, transactionSize }: Settings): number {
  if (batch !== null) return batch.maxMessages
  return inbox !== null || atomic ? transactionSize : 1
}

async function keep(
  { identity, topic }: Held,
  inbox: InboxStore<unknown>,
  clock: Clock,
): Promise<void> {
  if (identity === null) return
  const work = (): Promise<void> => inbox.keep(topic.consumer, [identity])
  await storeTime(clock)(work, 'keeping an inbox row')
}
