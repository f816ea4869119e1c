import type { SendOutcome } from '../contract/broker.ts'
import type { Clock, Random } from '../contract/clock.ts'
import type { ErrorCode } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { circuitBreaker, type Breaker, type BreakerOptions } from '../policy/circuit-breaker.ts'
import type { RetryPolicy } from '../policy/retry.ts'
import { tellStates } from './breaker-events.ts'
import type { HandOver, Reported } from './hand-over.ts'
import type { InFlight } from './in-flight.ts'
import { givenUp, leastDelayOf, outOfTime, troubleOf, type SendError } from './outcome.ts'
import type { Pending } from './pending.ts'
import type { Route } from './route.ts'

/** What understanding reports needs. */
export interface ReportsOptions {
  readonly inFlight: InFlight
  /** The connection's breaker. */
  readonly breaker: Breaker
  readonly breakerOptions: BreakerOptions | undefined
  readonly retry: RetryPolicy
  readonly purpose: string
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  /** A destination's breaker changed: what is held for it may go. */
  readonly routeChanged: (route: Route) => void
}

/** Turns what the broker reports into ends and retries, and feeds the breakers, once per report. */
export class Reports implements Reported {
  readonly #options: ReportsOptions
  readonly #breakers: Breaker[] = []
  #closing = false

  constructor(options: ReportsOptions) {
    this.#options = options
  }

  reported(handOver: HandOver, from: number, to: number, outcome: SendOutcome): void {
    if (outcome.status === 'confirmed') {
      this.#confirmed(handOver, from, to, outcome)
    } else this.#failed(handOver, from, to, outcome)
  }

  /** From now on nothing is tried again. */
  closing(): void {
    this.#closing = true
  }

  close(): void {
    for (const breaker of this.#breakers) breaker.close()
  }

  #confirmed(handOver: HandOver, from: number, to: number, outcome: Confirmed): void {
    const { inFlight, breaker, emit } = this.#options
    const at = outcome.at ?? null
    const again = outcome.possiblyDuplicated === true
    if (handOver.via === 'broker') breaker.success(handOver.generation)
    const wanted = emit.wants('publish.confirmed')
    let answered = 0
    for (let index = from; index < to; index++) {
      const pending = handOver.pendings[index]
      if (pending === undefined || pending.handOver !== handOver) {
        this.#late(pending, 'confirmed')
        continue
      }
      answered++
      pending.route.breaker?.success(pending.breakerGeneration)
      if (pending.told) this.#late(pending, 'confirmed')
      else if (wanted) this.#tellConfirmed(pending)
      inFlight.confirm(pending, at, again)
    }
    handOver.answered(answered)
  }

  #failed(handOver: HandOver, from: number, to: number, outcome: Failure): void {
    if (handOver.via === 'broker') this.#feedConnection(handOver, outcome)
    let counted: Route | null = null
    let answered = 0
    for (let index = from; index < to; index++) {
      const pending = handOver.pendings[index]
      if (pending === undefined || pending.handOver !== handOver) {
        this.#late(pending, outcome.status)
        continue
      }
      answered++
      pending.handOver = null
      if (handOver.via === 'broker') {
        this.#feedRoute(pending, outcome.error, pending.route !== counted)
        counted = pending.route
      }
      if (outcome.status === 'unknown') pending.unknown = outcome.error
      pending.lastError = outcome.error
      if (pending.told) this.#late(pending, outcome.status)
      this.#decide(pending, outcome)
    }
    handOver.answered(answered)
  }

  /** Tried again as long as attempts and time are left and it can help; else ended. */
  #decide(pending: Pending, { status, error }: Failure): void {
    const { inFlight, retry, clock, random } = this.#options
    const behind = error.code === 'predecessor'
    // The attempt of one that only stood behind a failed one was none.
    if (behind) pending.attempts--
    const canHelp = status === 'unknown' || behind || error.retryable
    if (this.#closing || pending.told || !canHelp || pending.attempts >= retry.attempts) {
      return inFlight.end(pending, givenUp(pending))
    }
    const delayMs = behind ? 0 : retry.backoff.delayFor(pending.attempts, random)
    pending.delayMs = Math.max(delayMs, leastDelayOf(error.code))
    if (clock.now() + pending.delayMs >= pending.deadline) {
      return inFlight.end(pending, outOfTime(pending))
    }
    this.#tellRetry(pending, error)
    inFlight.retry(pending)
  }

  /** Any answer but a lost connection says nothing against it; one about the message says that it works. */
  #feedConnection({ generation }: HandOver, { status, error }: Failure): void {
    const { breaker } = this.#options
    if (troubleOf(error.code) === 'connection') breaker.failure(generation)
    else if (status === 'refused' && isAnswer(error.code)) breaker.success(generation)
    else breaker.forgo(generation)
  }

  #feedRoute({ route, breakerGeneration }: Pending, { code }: SendError, count: boolean): void {
    if (troubleOf(code) !== 'destination') route.breaker?.forgo(breakerGeneration)
    else if (count && route.topic !== null) this.#breakerOf(route).failure(breakerGeneration)
  }

  #breakerOf(route: Route): Breaker {
    if (route.breaker !== null) return route.breaker
    const { breakerOptions, clock, emit, purpose, routeChanged } = this.#options
    const breaker = circuitBreaker(breakerOptions, clock)
    tellStates(breaker, `${purpose} ${route.name}`, emit)
    breaker.onChange(() => routeChanged(route))
    this.#breakers.push(breaker)
    route.breaker = breaker
    return breaker
  }

  #tellConfirmed({ route, envelope, attempts }: Pending): void {
    const { name: topic } = route
    this.#options.emit({ type: 'publish.confirmed', topic, id: envelope.id, attempts })
  }

  #tellRetry({ route, envelope, attempts, delayMs }: Pending, error: SendError): void {
    const { emit } = this.#options
    if (!emit.wants('publish.retry')) return
    const { name: topic } = route
    emit({ type: 'publish.retry', topic, id: envelope.id, attempt: attempts, delayMs, error })
  }

  /** Whoever asked was told already, so the word comes too late; it is worth counting. */
  #late(pending: Pending | undefined, outcome: SendOutcome['status']): void {
    const { emit } = this.#options
    if (pending === undefined || !emit.wants('publish.late')) return
    emit({ type: 'publish.late', topic: pending.route.name, id: pending.envelope.id, outcome })
  }
}

type Confirmed = Extract<SendOutcome, { status: 'confirmed' }>
type Failure = Exclude<SendOutcome, { status: 'confirmed' }>

/** Refusals that only a living broker can have made. */
function isAnswer(code: ErrorCode): boolean {
  return code === 'unroutable' || code === 'too-large' || code === 'rejected' || code === 'nacked'
}
