import type { Deadline } from '../contract/broker.ts'
import type { HoldfastError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import { Pending, type Expirer, type Sent } from './pending.ts'
import type { Route } from './route.ts'

/** Is told how one envelope ended; exactly one of the two is called, once. Neither may throw. */
export interface Ticket {
  /** After this instant it must not be handed over any more; asked each time. Default: its deadline. */
  until?(): Deadline
  confirmed(sent: Sent): void
  failed(error: HoldfastError): void
}

/** An envelope whose end is a promise's. */
export class Promised<T> extends Pending {
  readonly promise: Promise<T>
  readonly #result: (envelope: Envelope, sent: Sent) => T
  readonly #resolve: (value: T) => void
  readonly #reject: (error: HoldfastError) => void

  constructor(
    envelope: Envelope,
    deadline: Deadline,
    route: Route,
    seq: number,
    expirer: Expirer,
    result: (envelope: Envelope, sent: Sent) => T,
  ) {
    super(envelope, deadline, route, seq, expirer)
    this.promise = new Promise<T>(capture as (resolve: (value: T) => void) => void)
    this.#resolve = captured.resolve
    this.#reject = captured.reject
    this.#result = result
  }

  override confirmed(sent: Sent): void {
    this.#resolve(this.#result(this.envelope, sent))
  }

  override failed(error: HoldfastError): void {
    this.#reject(error)
  }
}

/** An envelope whose end is told to a ticket. */
export class Ticketed extends Pending {
  readonly #ticket: Ticket

  constructor(
    envelope: Envelope,
    deadline: Deadline,
    route: Route,
    seq: number,
    expirer: Expirer,
    ticket: Ticket,
  ) {
    super(envelope, deadline, route, seq, expirer)
    this.#ticket = ticket
  }

  override get until(): Deadline {
    return this.#ticket.until?.() ?? this.deadline
  }

  override confirmed(sent: Sent): void {
    this.#ticket.confirmed(sent)
  }

  override failed(error: HoldfastError): void {
    this.#ticket.failed(error)
  }
}

/** Where the one executor below leaves a promise's functions: so a promise costs no closure. */
const captured: { resolve: (value: unknown) => void; reject: (error: HoldfastError) => void } = {
  resolve: () => undefined,
  reject: () => undefined,
}

function capture(resolve: (value: unknown) => void, reject: (error: HoldfastError) => void): void {
  captured.resolve = resolve
  captured.reject = reject
}
