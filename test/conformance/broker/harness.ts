import type { Broker } from '../../../src/contract/broker.ts'
import type { Pace } from '../limits.ts'

/** Ends a fault; calling it again does nothing. */
export type Heal = () => void | Promise<void>

/**
 * Faults a harness can make happen. Each is optional: cases that need a missing one are left out and
 * named. Faults of a topic must not touch other topics, since cases run at the same time.
 */
export interface BrokerFaults {
  /** The broker goes away and comes back with all it had confirmed; resolves when it can be reached again. */
  readonly restart?: () => Promise<void>
  /** Until healed, nothing sent to the topic is answered; whether it is stored is open. */
  readonly stall?: (topic: string) => Heal | Promise<Heal>
  /** Until healed, nothing sent to the topic is written at all. */
  readonly neverWrite?: (topic: string) => Heal | Promise<Heal>
  /** The next `count` envelopes sent to the topic are stored, and the word about it is lost. */
  readonly loseConfirm?: (topic: string, count: number) => void | Promise<void>
  /** Every source of the group on this topic is taken from its holder without asking, and assigned anew. */
  readonly loseSource?: (topic: string, group: string) => void | Promise<void>
  /** Removes what the group reads from, as an operator would, behind the library's back. */
  readonly deleteDestination?: (topic: string, group: string) => void | Promise<void>
}

/**
 * How another process opens the same store: `module` (an absolute path or URL of built JavaScript) is
 * imported and its export `name` called with `options`, which travel as JSON; it returns a `Broker`.
 */
export interface SecondProcess {
  readonly module: string
  readonly name: string
  readonly options: unknown
}

/** What the suite needs to know about a broker: how to reach it, and what can be done to it. */
export interface BrokerHarness extends Pace {
  /** Title of the suite. */
  readonly name: string
  /** A broker object that is not open yet: one more connection to the store that all of this harness share. */
  connect(): Broker | Promise<Broker>
  /** A name nobody used before. Default: `conformance-` and 16 random hex digits. */
  topicName?(): string
  /** Shortest retry delay worth asking for, in milliseconds. Default 200. */
  readonly shortRetryMs?: number
  /** How long the broker may wait, after a process died, before it gives away what that held, in milliseconds. Default 0. */
  readonly takeoverMs?: number
  /**
   * Whether a consumer is asked first (`DeliverySink.revoking`) when another joins its group and is to
   * have some of its sources, of a topic with four partitions. Default false: they are taken, or shared.
   */
  readonly asksBack?: boolean
  /** How long a delivery is left to a holder who neither settles nor extends it, in milliseconds; where `Delivery.extend` is offered. */
  readonly deliveryLeaseMs?: number
  readonly faults?: BrokerFaults
  readonly secondProcess?: SecondProcess
}
