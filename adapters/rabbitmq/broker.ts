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
import { ClosedError, HoldfastError } from '../../src/contract/errors.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'
import { audit } from './audit.ts'
import { conflictOf } from './found.ts'
import { RabbitmqInspector } from './inspector.ts'
import { Opened } from './opened.ts'
import { resolveOptions, type RabbitmqOptions, type Resolved } from './options.ts'
import { findPartitions } from './partitions-of.ts'
import { RabbitmqReceiver } from './receiver.ts'
import { RabbitmqSender } from './sender.ts'
import { checkSubscription } from './subscription.ts'

const CLOSED: BrokerState = Object.freeze({ status: 'down', reason: 'not open' })

/** How long what was begun may take to end after opening failed. */
const UNDO_MS = 5_000

/**
 * RabbitMQ 4.0 or later through amqplib. 'confirmed' means that every queue that was routed to has the
 * message: on quorum queues, that a majority of their nodes has written it. Throws an `OptionError`;
 * does no I/O before `open`.
 */
export function rabbitmq(options: RabbitmqOptions): Broker {
  return new RabbitmqBroker(resolveOptions(options))
}

class RabbitmqBroker implements Broker {
  readonly name = 'rabbitmq'
  readonly inspect: Inspector
  readonly #options: Resolved
  readonly #listeners = new Set<(state: BrokerState) => void>()
  readonly #senders = new Set<Sender>()
  readonly #receivers = new Set<Receiver>()
  #opening: Promise<Opened> | null = null
  #opened: Opened | null = null
  #closing: Promise<void> | null = null
  #abandon = new AbortController()
  #state: BrokerState = CLOSED
  #named = 0

  constructor(options: Resolved) {
    this.#options = options
    this.inspect = new RabbitmqInspector(() => this.#here())
  }

  async open(context: BrokerContext): Promise<Capabilities> {
    if (this.#closing !== null) await this.#afresh(this.#closing)
    this.#opening ??= this.#open(context)
    const opening = this.#opening
    try {
      return (await opening).capabilities
    } catch (error) {
      if (this.#opening === opening) this.#opening = null
      throw error
    }
  }

  async provision(topology: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    const { provisioner, bindings, topics } = this.#here()
    const findings: Finding[] = []
    for (const topic of topology.topics) {
      const found = await provisioner.provision({ topics: [topic] }, mode)
      const isWhole = found.every(({ severity }) => severity !== 'error')
      if (isWhole) bindings.watch(topics.of(topic.name), topic, mode)
      findings.push(...found)
    }
    return findings
  }

  assume({ topics }: Topology): void {
    const table = this.#here().topics
    for (const topic of topics) {
      // Who names no number of partitions says nothing of them.
      const conflict = conflictOf(table.of(topic.name), { ...topic, groups: [] })
      if (conflict !== null) throw contradicts(conflict)
      table.keep(topic.name).tell(topic)
    }
  }

  async audit(topology: Topology): Promise<readonly Finding[]> {
    const { operations, management, topics, version } = this.#here()
    return audit(topology, { operations, management, topics, version, options: this.#options })
  }

  sender(purpose: 'publish' | 'relay' | 'settle'): Sender {
    const { connector, topics, context, health, healthOf } = this.#here()
    const name = `${purpose} ${++this.#named}`
    const sender = new RabbitmqSender({
      connector,
      topics,
      options: this.#options,
      context,
      purpose,
      health: healthOf(name),
    })
    this.#senders.add(sender)
    onClosed(sender, () => {
      this.#senders.delete(sender)
      health.forget(name)
    })
    return sender
  }

  async receive(subscription: Subscription, sink: DeliverySink): Promise<Receiver> {
    const opened = this.#here()
    await findPartitions(subscription, opened)
    await checkSubscription(subscription, opened, this.#options)
    const { connector, topics, context, health, healthOf } = opened
    const name = `group "${subscription.group}" ${++this.#named}`
    const receiver = new RabbitmqReceiver({
      connector,
      topics,
      options: this.#options,
      context,
      subscription,
      sink,
      health: healthOf(name),
    })
    this.#receivers.add(receiver)
    const forget = (): void => {
      this.#receivers.delete(receiver)
      health.forget(name)
    }
    onClosed(receiver, forget)
    try {
      await receiver.opened()
    } catch (error) {
      forget()
      throw error
    }
    return receiver
  }

  onState(listener: (state: BrokerState) => void): () => void {
    this.#listeners.add(listener)
    listener(this.#state)
    return () => void this.#listeners.delete(listener)
  }

  close(deadline: Deadline): Promise<void> {
    this.#closing ??= this.#close(deadline)
    return this.#closing
  }

  async #open(given: BrokerContext): Promise<Opened> {
    const signal = AbortSignal.any([given.signal, this.#abandon.signal])
    const context = { ...given, signal }
    const opened = new Opened(this.#options, context, (state) => this.#become(state))
    try {
      await opened.open(this.#options)
    } catch (error) {
      await opened.stop(context.clock.now() + UNDO_MS)
      this.#become(CLOSED)
      throw error
    }
    this.#opened = opened
    return opened
  }

  /** Closed before: a consumer that could not start may try again, with the same broker. */
  async #afresh(closing: Promise<void>): Promise<void> {
    await closing.catch(() => undefined)
    if (this.#closing !== closing) return
    this.#closing = null
    this.#opening = null
    this.#abandon = new AbortController()
    this.#senders.clear()
    this.#receivers.clear()
  }

  async #close(deadline: Deadline): Promise<void> {
    // Who is still waiting for a broker that is away waits no longer; what is open ends in its order.
    if (this.#opened === null) this.#abandon.abort(new ClosedError('broker'))
    const opened = await this.#opening?.catch(() => null)
    if (!opened) return
    try {
      await Promise.allSettled([...this.#receivers].map((receiver) => receiver.close(deadline)))
      await Promise.allSettled([...this.#senders].map((sender) => sender.close(deadline)))
    } finally {
      this.#opened = null
      await opened.stop(deadline)
      this.#become(CLOSED)
    }
  }

  #here(): Opened {
    if (this.#opened === null) throw new ClosedError('broker')
    return this.#opened
  }

  #become(state: BrokerState): void {
    this.#state = state
    for (const listener of this.#listeners) listener(state)
  }
}

function contradicts({ subject, message, declared, found }: Finding): HoldfastError {
  const text = `topic "${subject}": ${message}: ${declared} and ${found}`
  return new HoldfastError('topology', text, { topic: subject })
}

/** Tells when somebody closed it, so that its wire counts no more in the broker's state. */
function onClosed(part: Sender | Receiver, told: () => void): void {
  const close = part.close.bind(part)
  part.close = (deadline) => close(deadline).finally(told)
}
