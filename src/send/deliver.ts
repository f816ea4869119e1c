import type { Deadline } from '../contract/broker.ts'
import type { Clock, Random } from '../contract/clock.ts'
import { ClosedError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import type { Destination, Envelope } from '../contract/message.ts'
import type { BreakerOptions } from '../policy/circuit-breaker.ts'
import { withDeadline } from '../policy/deadline.ts'
import { resolveRetryPolicy, type RetryPolicy } from '../policy/retry.ts'
import { Promised, Ticketed, type Ticket } from './answer.ts'
import type { Bounds } from './batch.ts'
import { Connection } from './connection.ts'
import { Forwarder, type Diversion } from './forward.ts'
import { InFlight } from './in-flight.ts'
import { closedBefore, refusedTo } from './outcome.ts'
import type { Pending, Sent } from './pending.ts'
import { Reports } from './reports.ts'
import { Route, routeName } from './route.ts'
import type { Session } from './session.ts'

export type { Ticket } from './answer.ts'
export type { Bounds } from './batch.ts'
export type { Diversion } from './forward.ts'
export type { Sent, Via } from './pending.ts'

/** What a dispatcher needs. */
export interface DispatcherOptions<T> {
  readonly session: Session
  readonly purpose: 'publish' | 'relay' | 'settle'
  /** Makes what `send` resolves with. */
  readonly result: (envelope: Envelope, sent: Sent) => T
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  /** Deadline of envelopes that bring none, in milliseconds. Default 30 000. */
  readonly deadlineMs?: number
  /** Default: exponential back-off until the deadline. */
  readonly retry?: RetryPolicy
  readonly breaker?: BreakerOptions | undefined
  /** Default: unbounded, for callers that bound what they hand in themselves. */
  readonly bounds?: Bounds
  /** Makes sure that a topic exists before its `first` envelope, again on every new connection. */
  readonly prepare?: (topic: string, first: Envelope) => Promise<void>
  /** What becomes of a key's followers when its head is given up: they go on (default), or are refused too. */
  readonly followers?: 'continue' | 'refuse'
  readonly diversion?: Diversion | null
  /** Told after each send of a flush; `last` with the last one. */
  readonly handedOver?: (last: boolean) => void
  /** Told whenever `way` or `stopped` may have changed. */
  readonly changed?: () => void
}

/** Limits of one envelope. */
export interface SendOptions {
  readonly deadline?: Deadline | undefined
  readonly signal?: AbortSignal | undefined
}

const UNBOUNDED: Bounds = Object.freeze({
  messages: Number.POSITIVE_INFINITY,
  bytes: Number.POSITIVE_INFINITY,
  whenFull: 'fail',
  waitMs: 0,
})

/**
 * Delivers envelopes to the broker and tells the outcome of each: confirmed, refused (definitely not
 * stored) or unknown (may be stored); always by its deadline, also when the broker never answers.
 * Tries again under its policy with the same id, and keeps the order of each key while it does.
 */
export class Dispatcher<T> {
  readonly #session: Session
  readonly #purpose: 'publish' | 'relay' | 'settle'
  readonly #result: (envelope: Envelope, sent: Sent) => T
  readonly #clock: Clock
  readonly #deadlineMs: number
  readonly #connection: Connection
  readonly #inFlight: InFlight
  readonly #forwarder: Forwarder
  readonly #reports: Reports
  readonly #routes = new Map<string, Route>()
  #seq = 0
  #closing: Promise<void> | null = null

  constructor(options: DispatcherOptions<T>) {
    const { session, purpose, clock, emit, breaker } = options
    this.#session = session
    this.#purpose = purpose
    this.#result = options.result
    this.#clock = clock
    this.#deadlineMs = options.deadlineMs ?? 30_000
    this.#inFlight = new InFlight({
      clock,
      emit,
      bounds: options.bounds ?? UNBOUNDED,
      followers: options.followers ?? 'continue',
      flush: (ready) => this.#forwarder.forward(ready),
    })
    this.#connection = new Connection({
      session,
      purpose,
      breaker,
      clock,
      emit,
      changed: () => {
        this.#forwarder.release()
        options.changed?.()
      },
      failed: (error) => this.#forwarder.refuse(error),
    })
    this.#reports = this.#newReports(options)
    this.#forwarder = this.#newForwarder(options)
  }

  /** Envelopes whose outcome is not known yet. */
  get outstanding(): number {
    return this.#inFlight.size
  }

  /** open: envelopes go to the broker. probe: one may, to see whether it works again. shut: none may. */
  get way(): 'open' | 'probe' | 'shut' {
    if (this.#connection.isOpen) return 'open'
    return this.#connection.works && !this.#connection.isShut ? 'probe' : 'shut'
  }

  /** Topics nothing goes to at the moment. */
  stopped(state: 'open' | 'half-open'): string[] {
    const stopped: string[] = []
    for (const { name, isTopic, breaker } of this.#routes.values()) {
      if (isTopic && breaker?.state === state) stopped.push(name)
    }
    return stopped
  }

  /** Another way may be open now: what is held is looked at again. */
  release(): void {
    this.#forwarder.release()
  }

  /** Starts opening the broker in the background; the first envelope does so too. */
  open(): void {
    this.#connection.start()
  }

  /** Resolves when it is confirmed; rejects with a `PublishRefusedError` or an `OutcomeUnknownError`. */
  send(envelope: Envelope, options?: SendOptions): Promise<T> {
    if (this.#closing !== null) return Promise.reject(new ClosedError('dispatcher'))
    const refusal = this.#session.broker.refusal?.(this.#purpose) ?? null
    if (refusal !== null) return Promise.reject(refusedTo(envelope, refusal))
    const deadline = options?.deadline ?? this.#inFlight.accumulator.now() + this.#deadlineMs
    const route = this.#routeOf(envelope.to)
    const seq = ++this.#seq
    const pending = new Promised(envelope, deadline, route, seq, this.#inFlight, this.#result)
    this.#inFlight.take(pending, options?.signal)
    return pending.promise
  }

  /** Like `send`, with the end told to a ticket. */
  offer(envelope: Envelope, { deadline, signal }: SendOptions, ticket: Ticket): void {
    if (this.#closing !== null) return ticket.failed(new ClosedError('dispatcher'))
    const refusal = this.#session.broker.refusal?.(this.#purpose) ?? null
    if (refusal !== null) return ticket.failed(refusedTo(envelope, refusal))
    const until = deadline ?? this.#inFlight.accumulator.now() + this.#deadlineMs
    const route = this.#routeOf(envelope.to)
    const seq = ++this.#seq
    const pending = new Ticketed(envelope, until, route, seq, this.#inFlight, ticket)
    this.#inFlight.take(pending, signal)
  }

  /**
   * Resolves when everything handed in before has an outcome; rejects with code `timeout` when that
   * takes longer than the deadline.
   */
  flush(deadline: Deadline): Promise<void> {
    const what = `the outcome of ${this.outstanding} messages`
    return withDeadline(this.#clock, deadline, () => this.#inFlight.flushed(), what)
  }

  /**
   * What was not handed over is refused at once; what was is waited for until the deadline and then
   * unknown. Resolves in any case. Idempotent.
   */
  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #close(deadline: Deadline): Promise<void> {
    this.#reports.closing()
    this.#endAll((pending) => pending.stage !== 'sent')
    const answered = async (): Promise<void> => {
      await Promise.all([this.#connection.sender?.close(deadline), this.#inFlight.flushed()])
    }
    // Whatever is left then is unknown, which the messages themselves are told.
    await withDeadline(this.#clock, deadline, answered, 'closing').catch(() => undefined)
    this.#endAll(() => true)
    this.#connection.close()
    this.#reports.close()
    this.#inFlight.close()
  }

  /** From the last to the first, so that none becomes its key's next one on the way. */
  #endAll(which: (pending: Pending) => boolean): void {
    for (const pending of this.#inFlight.all().toReversed()) {
      if (pending.stage !== 'ended' && which(pending)) {
        this.#inFlight.end(pending, closedBefore(pending))
      }
    }
  }

  #routeOf(to: Destination): Route {
    const name = routeName(to)
    const known = this.#routes.get(name)
    if (known !== undefined) return known
    const route = new Route(to)
    this.#routes.set(name, route)
    this.#inFlight.accumulator.addRoute()
    return route
  }

  #newReports(options: DispatcherOptions<T>): Reports {
    const { retry, breaker, purpose, clock, random, emit } = options
    return new Reports({
      inFlight: this.#inFlight,
      breaker: this.#connection.breaker,
      breakerOptions: breaker,
      retry: retry ?? resolveRetryPolicy(),
      purpose,
      clock,
      random,
      emit,
      routeChanged: (route) => {
        this.#forwarder.release(route.held)
        options.changed?.()
      },
    })
  }

  #newForwarder({ clock, diversion, prepare, handedOver }: DispatcherOptions<T>): Forwarder {
    return new Forwarder({
      session: this.#session,
      connection: this.#connection,
      accumulator: this.#inFlight.accumulator,
      clock,
      diversion: diversion ?? null,
      prepare: prepare ?? null,
      end: (pending, error) => this.#inFlight.end(pending, error),
      reports: this.#reports,
      handedOver: handedOver ?? null,
    })
  }
}
