import type { Deadline, Delivery, DeliverySink, Source } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import { CodecError, HoldfastError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { withDeadline } from '../policy/deadline.ts'
import type { ConsumedTopic } from './consumed-topic.ts'
import { type Assignment, Held } from './held.ts'
import type { HoldLimits } from './hold-limits.ts'
import type { Holdings } from './holdings.ts'
import type { Pauses } from './pauses.ts'

/** What taking deliveries in needs. */
export interface IntakeOptions {
  readonly topics: ReadonlyMap<string, ConsumedTopic>
  readonly group: string
  /** Everything of a source is one lane, as a transaction over contiguous deliveries needs it. */
  readonly lanePerSource: boolean
  /** Starts of redelivered messages are counted. */
  readonly countsStarts: boolean
  readonly holdings: Holdings
  readonly limits: HoldLimits
  readonly pauses: Pauses
  readonly clock: Clock
  readonly crash: CrashPoints
  readonly emit: Emit
  readonly onEnded: (error: HoldfastError | undefined) => void
}

/** Time kept back of a revocation's deadline, to be through before it. */
const MARGIN_MS = 50

/** Where the receiver puts deliveries, and where it says what is ours no longer. */
export class Intake implements DeliverySink {
  readonly #options: IntakeOptions
  #closed = false

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** What still comes is given back at once. */
  close(): void {
    this.#closed = true
  }

  deliver(source: Source, batch: readonly Delivery[]): void {
    const { clock, crash, holdings, countsStarts } = this.#options
    crash.at('after_deliver')
    const assignment = holdings.of(source)
    if (this.#closed || assignment.leaving) {
      for (const delivery of batch) delivery.release()
      return
    }
    // Whole milliseconds: they cost no allocation per delivery.
    const now = Math.trunc(clock.now())
    for (const delivery of batch) {
      const topic = this.#topicOf(delivery)
      const suspect = countsStarts && delivery.redelivered !== 'no'
      const held = new Held(delivery, topic, assignment, now, suspect)
      holdings.add(held, this.#laneOf(held))
    }
  }

  /** Gives back what has not started, waits for the rest, and drops what is not through in time. */
  async revoking(sources: readonly Source[], deadline: Deadline): Promise<void> {
    const leaving = this.#assignmentsOf(sources)
    for (const assignment of leaving) {
      assignment.leaving = true
      this.#options.holdings.giveBackWaiting(assignment)
    }
    await Promise.all(leaving.map((assignment) => this.#through(assignment, deadline - MARGIN_MS)))
    for (const assignment of leaving) {
      if (!assignment.lost) this.#drop(assignment, 'revoked')
    }
  }

  lost(sources: readonly Source[]): void {
    const { emit } = this.#options
    for (const assignment of this.#assignmentsOf(sources)) {
      const held = this.#drop(assignment, 'lost')
      emit({ type: 'source.lost', source: assignment.source.name, held })
    }
  }

  ended(error?: HoldfastError): void {
    this.#options.onEnded(error)
  }

  #drop(assignment: Assignment, how: string): number {
    const { holdings, limits, pauses } = this.#options
    const { source } = assignment
    const text = `source ${source.name} (epoch ${source.epoch}) was ${how} while the handler ran`
    limits.forget(assignment)
    pauses.forget(source)
    return holdings.lose(assignment, new HoldfastError('aborted', text))
  }

  /** Resolves when nothing of it is held any more, or at the deadline. */
  async #through(assignment: Assignment, deadline: Deadline): Promise<void> {
    if (assignment.held.size === 0) return
    const empty = new Promise<void>((resolve) => {
      assignment.onEmpty = resolve
    })
    const what = `finishing source ${assignment.source.name}`
    await withDeadline(this.#options.clock, deadline, () => empty, what).catch(() => undefined)
  }

  #assignmentsOf(sources: readonly Source[]): Assignment[] {
    return sources.flatMap((source) => this.#options.holdings.known(source) ?? [])
  }

  #laneOf({ topic, delivery, assignment }: Held): string | null {
    if (this.#options.lanePerSource) return assignment.source.name
    return topic.ordering === 'none' ? null : delivery.envelope.orderKey
  }

  #topicOf({ envelope: { to } }: Delivery): ConsumedTopic {
    const name = to.kind === 'reply' ? to.address : to.topic
    return this.#options.topics.get(name) ?? this.#unknown(name)
  }

  /** Nobody can read it, so it goes to the dead letters of what it says it belongs to. */
  #unknown(name: string): ConsumedTopic {
    const known = [...this.#options.topics.keys()].join(', ')
    const refuse = (): never => {
      throw new CodecError(`a delivery of topic "${name}"; this consumer reads ${known}`)
    }
    const codec = { contentType: '', encode: refuse, decode: refuse }
    const topic = { name, type: name, ordering: 'none' as const, codec, schema: null, key: null }
    const consumer = `${name}.${this.#options.group}`
    return { topic, name, consumer, ordering: 'none', retryLevelsMs: [] }
  }
}
