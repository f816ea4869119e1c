import type {
  Broker,
  BrokerContext,
  BrokerState,
  Deadline,
  DeliverySink,
  Inspector,
  Receiver,
  Sender,
  Subscription,
} from '../../src/contract/broker.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import {
  CapabilityError,
  ClosedError,
  HoldfastError,
  OptionError,
} from '../../src/contract/errors.ts'
import { checkObject, refuseUnknownOptions } from '../../src/contract/option.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Topic } from '../../src/contract/topic.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'
import { Connection } from './connection.ts'
import { MemoryFaults } from './faults.ts'
import type { Group } from './group.ts'
import { MemoryInspector } from './inspector.ts'
import { Link } from './link.ts'
import { type MemoryOptions, resolveOptions } from './options.ts'
import { type PublishedMessage, publishedMessage } from './published.ts'
import { MemoryServer } from './server.ts'
import { settled } from './settled.ts'
import { audit, notDeclared, provision } from './topology.ts'
import { fromWire } from './wire-headers.ts'

/** Options of `memory()`, or the broker whose topics this one is to share as a second connection. */
export type MemoryBrokerOptions =
  | MemoryOptions
  | ({ readonly sameAs: MemoryBroker } & { readonly [Name in keyof MemoryOptions]?: never })

/**
 * A broker in this process: the reference of the contract, and what users test with. Its topics live
 * as long as the object; closing ends the connection and keeps them, so that it can be opened again.
 */
export class MemoryBroker implements Broker {
  readonly name = 'memory'
  readonly inspect: Inspector
  /** Makes go wrong what goes wrong with brokers. */
  readonly faults: MemoryFaults
  readonly #server: MemoryServer
  readonly #link = new Link()
  #connection: Connection | null = null
  #opening: Promise<Capabilities> | null = null
  #closing: Promise<void> | null = null

  constructor(options: MemoryBrokerOptions = {}) {
    this.#server = serverFor(options)
    this.inspect = new MemoryInspector(this.#server)
    this.faults = new MemoryFaults(this.#server, this.#link, () => this.#connection)
  }

  open(context: BrokerContext): Promise<Capabilities> {
    if (this.#opening === null) {
      const opening = this.#open(context)
      this.#opening = opening
      opening.catch(() => {
        if (this.#opening === opening) this.#opening = null
      })
    }
    return this.#opening
  }

  async #open(context: BrokerContext): Promise<Capabilities> {
    await this.#link.reachable(context.signal)
    this.#connection = new Connection(this.#server, this.#link, context)
    this.#closing = null
    this.#server.connect(this.#connection, context.clock)
    this.#link.up()
    return this.#server.capabilities
  }

  async provision(topology: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    this.#reachable('provision()')
    return provision(this.#server, topology, mode)
  }

  async audit(topology: Topology): Promise<readonly Finding[]> {
    this.#reachable('audit()')
    return audit(this.#server, topology)
  }

  sender(_purpose: 'publish' | 'relay' | 'settle'): Sender {
    return this.#opened('sender()').sender()
  }

  async receive(subscription: Subscription, sink: DeliverySink): Promise<Receiver> {
    const connection = this.#reachable('receive()')
    const { ordering } = this.#server.capabilities
    if (!ordering.includes(subscription.ordering)) {
      throw new CapabilityError(
        `ordering '${subscription.ordering}' is switched off here; there is: ${ordering.join(', ')}`,
      )
    }
    const groups = subscription.topics.map((topic) => this.#groupFor(topic, subscription))
    return connection.receive(subscription, sink, groups)
  }

  onState(listener: (state: BrokerState) => void): () => void {
    return this.#link.listen(listener)
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  /** What was published to the topic so far, oldest first; at most `keepPublished`, else it throws. */
  published<In = unknown>(topic: Topic<In, unknown> | string): readonly PublishedMessage<In>[] {
    const name = typeof topic === 'string' ? topic : topic.name
    const envelopes = this.#server.topics.get(name)?.published.all() ?? []
    const known = typeof topic === 'string' ? null : topic
    return envelopes.map((envelope) => publishedMessage(envelope, known))
  }

  /** The dead letters of a group, oldest first. */
  dead(topic: string, group: string): readonly Envelope[] {
    const found = this.#server.topics.get(topic)?.group(group)
    if (found === undefined) throw notDeclared(topic, group)
    return found.dead.map(fromWire)
  }

  /** Hands over at once what is pending and fits; returns how many messages. With `delivery: 'manual'` the only way. */
  deliver(): number {
    this.#opened('deliver()')
    return this.#server.deliver()
  }

  /**
   * Resolves when nothing is unreported, pending, held or scheduled, dead letters aside. Rejects with
   * code `timeout` and a list of what is left when that is not so within `deadlineMs`, 5 000 by default.
   */
  async settled(options: { readonly deadlineMs?: number } = {}): Promise<void> {
    const connection = this.#opened('settled()')
    await settled(this.#server, connection, options.deadlineMs)
  }

  async #close(deadline: Deadline): Promise<void> {
    const connection = this.#connection
    this.#connection = null
    this.#opening = null
    this.#link.close()
    await connection?.close(deadline)
  }

  #groupFor(topic: string, { group, from }: Subscription): Group {
    const log = this.#server.topics.get(topic)
    if (log === undefined) throw notDeclared(topic, null)
    const found = log.group(group)
    if (found === undefined) throw notDeclared(topic, group)
    if (from === 'earliest' && !found.consumed) {
      if (!log.canReplayInto(found)) {
        throw new CapabilityError(
          `from: 'earliest': group "${group}" was declared after ${found.startsAt} messages, which are kept only with memory({ history: true }); start it 'now', or declare it before the first publish`,
          { topic },
        )
      }
      log.replayInto(found)
    }
    return found
  }

  #opened(what: string): Connection {
    if (this.#connection !== null) return this.#connection
    throw new ClosedError(`memory broker (${what})`)
  }

  #reachable(what: string): Connection {
    const connection = this.#opened(what)
    if (connection.connected()) return connection
    throw new HoldfastError(
      'unavailable',
      `memory broker: ${what} while it is down; try again later`,
    )
  }

  /** For `sameAs`: the server behind a broker object. */
  static serverOf(broker: MemoryBroker): MemoryServer {
    return broker.#server
  }
}

function serverFor(options: MemoryBrokerOptions): MemoryServer {
  checkObject('memory', options)
  if (!('sameAs' in options)) return new MemoryServer(resolveOptions(options))
  const { sameAs, ...rest } = options
  refuseUnknownOptions('memory({ sameAs })', rest, [])
  if (sameAs instanceof MemoryBroker) return MemoryBroker.serverOf(sameAs)
  throw new OptionError('sameAs', sameAs, 'a broker made by memory()')
}

/** Makes a broker in this process. Does no I/O; throws an `OptionError` for anything not allowed. */
export function memory(options: MemoryBrokerOptions = {}): MemoryBroker {
  return new MemoryBroker(options)
}
