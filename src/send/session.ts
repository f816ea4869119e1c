import type { Broker, BrokerState, Deadline } from '../contract/broker.ts'
import type { Capabilities } from '../contract/capabilities.ts'
import type { Emit } from '../contract/events.ts'
import type { TopicTopology, TopologyMode } from '../contract/topology.ts'
import { SharedBroker, type SessionContext } from './shared-broker.ts'

export type { SessionContext } from './shared-broker.ts'

/**
 * One part's share in an open broker. Publisher, relay and consumers of a process that were given the
 * same broker object use one connection; it is closed when the last of them leaves.
 */
export class Session {
  readonly broker: Broker
  readonly #shared: SharedBroker
  readonly #emit: Emit
  #left: Promise<void> | null = null

  private constructor(broker: Broker, shared: SharedBroker, emit: Emit) {
    this.broker = broker
    this.#shared = shared
    this.#emit = emit
  }

  /** Joins the broker, which is opened by the first `ready()`. Does no I/O. */
  static join(broker: Broker, context: SessionContext): Session {
    const shared = SharedBroker.of(broker, context)
    shared.enter(context.emit)
    return new Session(broker, shared, context.emit)
  }

  /** The broker's capabilities once it is open, else null. */
  get capabilities(): Capabilities | null {
    return this.#shared.capabilities
  }

  /** Health of the connection as the broker told last. */
  get state(): BrokerState {
    return this.#shared.state
  }

  /** Grows with every new connection; what was provisioned before has to be looked at again. */
  get generation(): number {
    return this.#shared.generation
  }

  /** Opens the broker, trying again until it works; rejects when trying again cannot help, or after leaving. */
  ready(): Promise<Capabilities> {
    return this.#shared.ready()
  }

  /** Called at once with the present state, then on every change; returns how to stop. */
  onState(listener: (state: BrokerState) => void): () => void {
    return this.#shared.onState(listener)
  }

  /**
   * Resolves when all of it exists on the present connection; the broker is asked once per topic and
   * connection, and again in the background after every reconnect. Rejects with an error of code
   * `topology` that lists what was found wrong, or with the broker's own. With 'none' the broker is
   * only told.
   */
  provision(topics: readonly TopicTopology[], mode: TopologyMode): Promise<void> {
    return this.#shared.provision(topics, mode)
  }

  /** Leaves; the last one closes the broker within the deadline. Idempotent. */
  leave(deadline: Deadline): Promise<void> {
    this.#left ??= this.#shared.exit(this.#emit, deadline)
    return this.#left
  }
}
