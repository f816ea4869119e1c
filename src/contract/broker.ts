import type { Capabilities, Ordering } from './capabilities.ts'
import type { Clock, Random } from './clock.ts'
import type { CrashPoints } from './crash-points.ts'
import type { HoldfastError, OutcomeUnknownError, PublishRefusedError } from './errors.ts'
import type { Emit } from './events.ts'
import type { Destination, Envelope } from './message.ts'
import type { Finding, Topology } from './topology.ts'

/** A monotonic instant of the injected `Clock`: the caller's whole budget; never suspended. */
export type Deadline = number

/** Where a delivery was read, for logs and dead letters: "3:4711", "queue#tag". */
export type Coordinates = string

/** What the core hands an adapter when it opens. */
export interface BrokerContext {
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
  readonly emit: Emit
  /** Aborts opening and everything that waits in the background. */
  readonly signal: AbortSignal
}

/** Health of the connection to the broker. `blocked`: it asked us to stop writing. */
export interface BrokerState {
  readonly status: 'up' | 'degraded' | 'blocked' | 'down'
  readonly reason: string | null
}

/**
 * What an adapter implements. All of it may be called concurrently. `close` is idempotent and ends
 * every sender and receiver that is still open.
 */
export interface Broker {
  readonly name: string
  /** Backs off until it works or the signal aborts; capabilities (server version, driver) are final then. A second call returns the same. */
  open(context: BrokerContext): Promise<Capabilities>
  /** Idempotent. `create` makes what is missing and changes nothing that exists; `verify` only looks. */
  provision(topology: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]>
  /**
   * Told instead with topology 'none', and of topics whose groups somebody else declares: what is said
   * of them is so. Only brokers that cannot find it out by themselves have it. Does no I/O; throws an
   * error of code `topology` when it contradicts what was said before.
   */
  assume?(topology: Topology): void
  /** Durability settings of the live broker, weak ones named. */
  audit(topology: Topology): Promise<readonly Finding[]>
  /** Own queue and window for each purpose, so that a flood of publishes cannot starve dead letters. */
  sender(purpose: 'publish' | 'relay' | 'settle'): Sender
  /**
   * Asked in the caller's own async context, before an envelope is taken in, also before open(): why
   * this caller cannot publish now, although others can. An embedded broker says so to whoever is
   * inside a transaction on its file, for which the publish would wait in vain.
   */
  refusal?(purpose: 'publish' | 'relay' | 'settle'): PublishRefusedError | null
  receive(subscription: Subscription, sink: DeliverySink): Promise<Receiver>
  /** Called at once with the present state, then on every change; returns how to stop listening. */
  onState(listener: (state: BrokerState) => void): () => void
  readonly inspect?: Inspector
  close(deadline: Deadline): Promise<void>
}

/** The broker's word for an envelope. */
export type SendOutcome =
  /** `possiblyDuplicated`: the adapter had to write it again, and the first time may have been stored too. */
  | { readonly status: 'confirmed'; readonly at?: StoredAt; readonly possiblyDuplicated?: true }
  | { readonly status: 'refused'; readonly error: PublishRefusedError }
  | { readonly status: 'unknown'; readonly error: OutcomeUnknownError }

/** Where the broker stored it, as far as it says. */
export interface StoredAt {
  readonly partition: number
  readonly offset: string
}

/** The outcome of nearly every envelope; one object, so that a confirm costs none. */
export const CONFIRMED: SendOutcome = Object.freeze({ status: 'confirmed' })

/** Called exactly once for every envelope of a send, for half-open index ranges of that batch. */
export type Report = (from: number, to: number, outcome: SendOutcome) => void

export interface Sender {
  /**
   * Takes the batch and returns at once. May be called again before earlier calls are settled: the
   * adapter owns window, coalescing and splitting by bytes, the caller owns the bound on what is
   * outstanding. `report` comes as soon as a fate is known, in any order, never synchronously from
   * send(), never after close() resolved. 'confirmed' only on the broker's word for that very
   * message; never written by the deadline → refused('not-sent'); written and unanswered → unknown.
   * A failure caused by one envelope (too large, unroutable, kills its channel) is isolated before
   * anything is reported for its neighbours.
   */
  send(batch: readonly Envelope[], deadline: Deadline, report: Report): void
  /** Unsent → refused('not-sent'); sent → waits, then unknown. Idempotent. */
  close(deadline: Deadline): Promise<void>
}

/** What a receiver is asked for. */
export interface Subscription {
  readonly topics: readonly string[]
  readonly group: string
  readonly ordering: Ordering
  /** Where a group that did not exist before starts: 'now' = since declared. */
  readonly from: 'now' | 'earliest'
  /** Bound on deliveries handed over and not settled yet; at the bound the adapter stops delivering. */
  readonly maxHeld: { readonly messages: number; readonly bytes: number }
}

/** The broker's ordering unit as assigned to us once; one object per assignment: compare by identity, never by name. */
export interface Source {
  readonly name: string
  readonly epoch: number
}

/** Where an adapter puts what it receives; the core implements it. No method throws. */
export interface DeliverySink {
  deliver(source: Source, batch: readonly Delivery[]): void
  /** Still ours until it resolves: finish or release; settles are flushed, then given up. May be skipped. */
  revoking(sources: readonly Source[], deadline: Deadline): Promise<void>
  /** No longer ours: abort handlers, drop the rest; later settles are no-ops. */
  lost(sources: readonly Source[]): void
  /** Terminal; without an error only after close(). */
  ended(error?: HoldfastError): void
}

/**
 * An envelope received, to be settled once. The first of ack, release and retry counts, later ones
 * are no-ops; on a lost source all are no-ops with a `settle.stale` event, never an error, never
 * somebody else's message.
 */
export interface Delivery {
  readonly envelope: Envelope
  readonly source: Source
  readonly at: Coordinates
  /** 1-based, as far as the broker and our header know; handing out again after release or a crash does not raise it. */
  readonly attempt: number
  /** 'no' only when it certainly was never handed to a handler before. */
  readonly redelivered: 'no' | 'maybe' | 'yes'
  ack(): void
  /** Giving up only (shutdown, revoking, hold limit while paused); never for breaker-open or busy: those stay in the lane. Does not count as an attempt. */
  release(): void
  /**
   * Only where `capabilities.retryDelay` is 'native'. Redelivers after at least `delayMs`, with the
   * attempt count one higher. false: the broker would be earlier, and nothing was done; then it can
   * be sent to `{ kind: 'group', delayMs }`, as where there are levels.
   */
  retry?(delayMs: number): boolean
  /** Lease brokers: keep it ours for that much longer. */
  extend?(ms: number): void
}

export interface Receiver {
  /** Remembered: without sources it also covers later ones and survives reconnects and rebalances. Policy, not memory: `maxHeld` bounds intake. */
  pause(sources?: readonly Source[]): void
  resume(sources?: readonly Source[]): void
  /** Every settle made before is at the broker when it resolves; rejects with what is not. */
  flush(deadline: Deadline): Promise<void>
  /** No deliver() after it resolves; settling still works. Idempotent. */
  stop(deadline: Deadline): Promise<void>
  /** stop, flush, give back the rest, leave the group. Idempotent. */
  close(deadline: Deadline): Promise<void>
  /** The broker's own transaction: settles and produces together. Only where `atomicPublish` is not 'none'. */
  transact?(
    done: readonly Delivery[],
    produced: readonly Envelope[],
    deadline: Deadline,
  ): Promise<'committed' | 'aborted' | 'unknown'>
}

/** Looking into destinations without consuming; for tests, doctor and console. */
export interface Inspector {
  /** Messages stored there and not finished. */
  depth(destination: Destination): Promise<number>
  /** The oldest `limit` of them, left where they are. */
  browse(destination: Destination, limit: number): Promise<readonly Envelope[]>
}
