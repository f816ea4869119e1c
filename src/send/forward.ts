import type { Deadline, Sender, SendOutcome } from '../contract/broker.ts'
import type { Capabilities } from '../contract/capabilities.ts'
import type { Clock } from '../contract/clock.ts'
import {
  CapabilityError,
  isHoldfastError,
  OutcomeUnknownError,
  PublishRefusedError,
  type HoldfastError,
} from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { Accumulator } from './batch.ts'
import type { Connection } from './connection.ts'
import { followers } from './gate.ts'
import { HandOver, type Reported } from './hand-over.ts'
import { notSent, tooLarge, unprepared } from './outcome.ts'
import type { Pending, Via } from './pending.ts'
import type { Route } from './route.ts'
import type { Session } from './session.ts'

/** Another way for the envelopes of a topic while the one to the broker is shut. */
export interface Diversion {
  readonly sender: Sender
  /** Where envelopes of the topic go now, null: nowhere yet; `shut`: the way to the broker is. */
  wayOf(topic: string, shut: boolean): Via | null
}

/** What a forwarder needs. */
export interface ForwarderOptions {
  readonly session: Session
  readonly connection: Connection
  readonly accumulator: Accumulator
  readonly clock: Clock
  readonly diversion: Diversion | null
  /** Makes sure that a topic exists before its `first` envelope, again on every new connection. */
  readonly prepare: ((topic: string, first: Envelope) => Promise<void>) | null
  /** Ends one that can never be sent. */
  readonly end: (pending: Pending, error: HoldfastError) => void
  readonly reports: Reported
  readonly handedOver: ((last: boolean) => void) | null
}

/** The adapter's deadline lies this much before ours, so that its answer is still heard. */
const MARGIN_MS = 100

/** Decides of everything that is ready which way it may go now, and hands it over; the rest is held. */
export class Forwarder {
  readonly #options: ForwarderOptions
  /** Rests until the broker can be reached. */
  readonly #held = new Set<Pending>()
  #handOvers: HandOver[] = []

  constructor(options: ForwarderOptions) {
    this.#options = options
  }

  /** Takes one flush. */
  forward(ready: readonly Pending[]): void {
    const now = this.#options.clock.now()
    for (const pending of ready) {
      // Others may have ended it since it became ready; one whose time is up is ended by its deadline.
      if (pending.stage !== 'ready' || pending.deadline <= now) continue
      const way = this.#wayOf(pending, now)
      if (way !== null) this.#put(pending, way, now)
    }
    const handOvers = this.#handOvers
    this.#handOvers = []
    for (const handOver of handOvers) {
      this.#send(handOver, now, handOver === handOvers.at(-1))
    }
  }

  /** Something may have become possible: what is held is looked at again. */
  release(held: Set<Pending> = this.#held): void {
    for (const pending of [...held]) {
      pending.unshelve()
      this.#options.accumulator.ready(pending)
    }
  }

  /** The broker cannot be opened, or a destination not be made: nothing of it will ever go. */
  refuse(error: unknown, held: Set<Pending> = this.#held): void {
    const code = isHoldfastError(error) ? error.code : 'unavailable'
    for (const pending of [...held]) this.#options.end(pending, unprepared(pending, code, error))
  }

  #wayOf(pending: Pending, now: number): Via | null {
    const { connection, diversion, session } = this.#options
    const { route } = pending
    if (diversion !== null && route.isTopic) {
      const way = diversion.wayOf(route.name, this.#isShut(route))
      if (way === null) return this.#hold(pending, this.#held)
      if (way === 'outbox') return this.#ends(pending, sizeError(pending)) ? null : way
    }
    if (!connection.works) {
      connection.start()
      return this.#hold(pending, this.#held)
    }
    if (route.preparedOn !== session.generation && !this.#prepare(pending)) {
      return this.#hold(pending, route.held)
    }
    if (this.#ends(pending, this.#objection(pending, now))) return null
    if (!connection.breaker.admit()) return this.#hold(pending, this.#held)
    if (route.breaker === null || route.breaker.admit()) return 'broker'
    connection.breaker.forgo()
    return this.#hold(pending, route.held)
  }

  #isShut(route: Route): boolean {
    return this.#options.connection.isShut || route.breaker?.state === 'open'
  }

  #hold(pending: Pending, shelf: Set<Pending>): null {
    pending.shelve(shelf)
    return null
  }

  #ends(pending: Pending, error: HoldfastError | null): boolean {
    if (error !== null) this.#options.end(pending, error)
    return error !== null
  }

  /** Why the broker would never take it, or must not get it any more. */
  #objection(pending: Pending, now: number): HoldfastError | null {
    if (pending.until <= now) return notSent(pending, 'the right to send it ended')
    return sizeError(pending) ?? this.#scheduleError(pending)
  }

  #scheduleError(pending: Pending): HoldfastError | null {
    const { deliverAtMs } = pending.envelope
    if (deliverAtMs === null) return null
    const { connection, clock } = this.#options
    const most = connection.capabilities?.scheduledSend?.maxDelayMs ?? 0
    if (deliverAtMs - clock.wallMs() <= most) return null
    const able = most === 0 ? 'cannot delay messages' : `delays messages by at most ${most} ms`
    return new CapabilityError(
      `deliverAt of message ${pending.envelope.id}: this broker ${able}; use publishIn with an outbox, which works on every broker`,
      { topic: pending.route.name, messageId: pending.envelope.id ?? undefined },
    )
  }

  /** true: it is there already. Else what waits for it is released or refused later. */
  #prepare({ route, envelope }: Pending): boolean {
    const { prepare, session, connection } = this.#options
    const { generation } = session
    if (prepare === null || !route.isTopic) return this.#prepared(route, generation)
    if (route.preparing) return false
    route.preparing = true
    prepare(route.name, envelope).then(
      () => {
        route.preparing = false
        if (connection.capabilities !== null) this.#prepared(route, generation)
        this.release(route.held)
      },
      (error: unknown) => {
        route.preparing = false
        this.refuse(error, route.held)
      },
    )
    return false
  }

  #prepared(route: Route, generation: number): true {
    const capabilities = this.#options.connection.capabilities as Capabilities
    route.preparedOn = generation
    if (route.isTopic && route.topic !== null) {
      route.maxBodyBytes = capabilities.limits(route.topic).maxBodyBytes
    }
    return true
  }

  /** Puts it into the hand-over of its way and deadline, with as much of its key's run as may go along. */
  #put(pending: Pending, via: Via, now: number): void {
    const handOver = this.#handOverFor(pending, via, now)
    const { run, route } = pending
    add(handOver, pending)
    if (run === null || (run.behind.size === 0 && run.again.length === 0)) return
    if (!this.#mayGoTogether(via, route)) return
    const fits = (next: Pending): boolean =>
      next.deadline > now && handOver.fits(limitOf(next), now)
    for (const follower of followers(run, fits)) {
      if (!this.#ends(follower, this.#objection(follower, now))) add(handOver, follower)
    }
  }

  /** Runs of a key go in one send where the way keeps them together; probes go alone. */
  #mayGoTogether(via: Via, route: Route): boolean {
    if (via === 'outbox') return true
    const { connection } = this.#options
    if (connection.capabilities?.keyRunsInOneSend !== true || !connection.isOpen) return false
    return route.breaker === null || route.breaker.state === 'closed'
  }

  #handOverFor(pending: Pending, via: Via, now: number): HandOver {
    const limit = limitOf(pending)
    for (const handOver of this.#handOvers) {
      if (handOver.via === via && handOver.fits(limit, now)) return handOver
    }
    const { connection, reports } = this.#options
    const handOver = new HandOver(via, limit, connection.breaker.generation, reports)
    this.#handOvers.push(handOver)
    return handOver
  }

  #send(handOver: HandOver, now: number, last: boolean): void {
    const { connection, diversion, handedOver } = this.#options
    const sender = handOver.via === 'broker' ? connection.sender : (diversion?.sender ?? null)
    const left = handOver.deadline - now
    const deadline: Deadline = handOver.deadline - Math.min(MARGIN_MS, left / 10)
    try {
      sender?.send(handOver.take(), deadline, handOver.report)
    } catch (error) {
      handOver.report(0, handOver.pendings.length, thrown(error))
    }
    handedOver?.(last)
  }
}

function add(handOver: HandOver, pending: Pending): void {
  pending.stage = 'sent'
  pending.attempts++
  pending.handOver = handOver
  if (pending.run !== null) pending.run.unresolved++
  if (pending.route.breaker !== null) pending.breakerGeneration = pending.route.breaker.generation
  handOver.add(pending)
}

/** A sender must not throw; when it does, nothing is known but that a closed one wrote nothing. */
function thrown(error: unknown): SendOutcome {
  const why = error instanceof Error ? error.message : String(error)
  if (isHoldfastError(error) && error.code === 'closed') {
    const facts = { cause: error, retryable: true }
    return { status: 'refused', error: new PublishRefusedError('unavailable', why, facts) }
  }
  return {
    status: 'unknown',
    error: new OutcomeUnknownError('unanswered', `the sender failed: ${why}`, { cause: error }),
  }
}

function sizeError(pending: Pending): HoldfastError | null {
  const bytes = pending.envelope.body?.length ?? 0
  const most = pending.route.maxBodyBytes
  return bytes > most ? tooLarge(pending, bytes, most) : null
}

/** Until when it may be handed over and answered. */
function limitOf(pending: Pending): Deadline {
  return Math.min(pending.deadline, pending.until)
}
