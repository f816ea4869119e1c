import type { BrokerContext, BrokerState, Deadline } from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Clock } from '../../src/contract/clock.ts'
import type { HoldfastError } from '../../src/contract/errors.ts'
import { Bindings } from './bindings.ts'
import { capabilitiesOf, type Version } from './capabilities.ts'
import { loadAmqplib } from './client.ts'
import { Connector } from './connector.ts'
import { WireHealth } from './health.ts'
import { Management } from './management.ts'
import { Operations } from './operations.ts'
import type { Resolved } from './options.ts'
import { Supervisor, type Health } from './supervisor.ts'
import { Provisioner } from './topology.ts'
import { TopicTable } from './topics.ts'
import { companionsOf } from './wanted.ts'

/** How often bindings are looked at. */
const VERIFY_EVERY_MS = 60_000

/** Everything there is while the broker is open, around the wire of its own on which it asks and looks. */
export class Opened {
  readonly context: BrokerContext
  readonly connector: Connector
  readonly topics: TopicTable
  readonly operations: Operations
  readonly management: Management | null
  readonly provisioner: Provisioner
  readonly bindings: Bindings
  readonly health: WireHealth
  readonly #supervisor: Supervisor
  #version: Version = [0, 0, 0]
  #capabilities: Capabilities | null = null

  constructor(options: Resolved, context: BrokerContext, onState: (state: BrokerState) => void) {
    const { clock, random, emit } = context
    const { rpcTimeoutMs, managementUrl } = options
    this.context = context
    this.connector = new Connector(options, context)
    this.topics = new TopicTable(options, clock, random)
    this.operations = new Operations({ clock, rpcTimeoutMs })
    this.management =
      managementUrl === null ? null : new Management({ ...options, managementUrl, clock })
    const { operations, management, topics } = this
    const version = (): Version => this.#version
    this.provisioner = new Provisioner({ operations, management, topics, options, version, emit })
    this.health = new WireHealth(() => this.bindings.missing, onState)
    this.bindings = new Bindings({
      operations,
      management,
      clock,
      random,
      emit,
      everyMs: VERIFY_EVERY_MS,
      companions: (plan, topology) =>
        companionsOf(plan, topology, { ...options, version: version() }),
      heal: (topology, mode) => this.provisioner.provision(topology, mode),
      changed: () => this.health.refresh(),
    })
    this.#supervisor = new Supervisor({
      purpose: 'operating',
      connector: this.connector,
      clock,
      random,
      setup: async (wire) => {
        this.#version = wire.version
        this.operations.attach(wire)
      },
      lost: () => undefined,
      health: this.healthOf('operating'),
    })
  }

  get clock(): Clock {
    return this.context.clock
  }

  get version(): Version {
    return this.#version
  }

  /** Final once it was opened. */
  get capabilities(): Capabilities {
    return this.#capabilities as Capabilities
  }

  /** How a wire says how it is. What comes back may find bindings gone. */
  readonly healthOf = (name: string): ((health: Health, reason: string | null) => void) => {
    return (health, reason) => {
      if (this.health.set(name, health, reason)) this.bindings.soon()
    }
  }

  /** Connects, as often as it takes; rejects when the context's signal aborts, or when trying again cannot help. */
  async open(options: Resolved): Promise<void> {
    await loadAmqplib()
    const { signal } = this.context
    signal.throwIfAborted()
    const first = this.#firstWire(signal)
    this.#supervisor.start()
    await first
    this.#capabilities = capabilitiesOf(options, this.#version)
    this.bindings.start()
  }

  /** Ends what was begun, also when it never opened. Never rejects. */
  async stop(deadline: Deadline): Promise<void> {
    this.health.end()
    await this.bindings.stop(deadline)
    await this.#supervisor.stop(deadline)
  }

  #firstWire(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal.reason as HoldfastError)
      signal.addEventListener('abort', abort, { once: true })
      this.operations.onWire(() => {
        signal.removeEventListener('abort', abort)
        resolve()
      })
    })
  }
}
