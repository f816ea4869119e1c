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
import { Lifetime } from '../../src/policy/lifetime.ts'
import { Observed } from '../../src/policy/observed.ts'
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
  readonly #lifetime = new Lifetime<Opened>('broker')
  readonly #state = new Observed<BrokerState>(CLOSED)
  #abandon = new AbortController()
  #named = 0

  constructor(options: Resolved) {
    this.#options = options
    this.inspect = new RabbitmqInspector(() => this.#lifetime.here())
  }

  async open(context: BrokerContext): Promise<Capabilities> {
    const { capabilities } = await this.#lifetime.open(() => this.#open(context))
    return capabilities
  }

  async provision(topology: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    const { provisioner, bindings, topics } = this.#lifetime.here()
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
    const table = this.#lifetime.here().topics
    for (const topic of topics) {
      // Who names no number of partitions says nothing of them.
      const conflict = conflictOf(table.of(topic.name), { ...topic, groups: [] })
      if (conflict !== null) throw contradicts(conflict)
      table.keep(topic.name).tell(topic)
    }
  }

  async audit(topology: Topology): Promise<readonly Finding[]> {
    const { operations, management, topics, version } = this.#lifetime.here()
    return audit(topology, { operations, management, topics, version, options: this.#options })
  }

  sender(purpose: 'publish' | 'relay' | 'settle'): Sender {
    const { connector, topics, context, health, healthOf } = this.#lifetime.here()
    const name = `${purpose} ${++this.#named}`
    const sender = new RabbitmqSender({
      connector,
      topics,
      options: this.#options,
      context,
      purpose,
      health: healthOf(name),
    })
    this.#lifetime.senders.add(sender)
    onClosed(sender, () => {
      this.#lifetime.senders.delete(sender)
      health.forget(name)
    })
    return sender
  }

  async receive(subscription: Subscription, sink: DeliverySink): Promise<Receiver> {
    const opened = this.#lifetime.here()
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
    this.#lifetime.receivers.add(receiver)
    const forget = (): void => {
      this.#lifetime.receivers.delete(receiver)
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
    return this.#state.listen(listener)
  }

  close(deadline: Deadline): Promise<void> {
    return this.#lifetime.close(deadline, {
      end: async (opened) => {
        await opened.stop(deadline)
        this.#state.become(CLOSED)
      },
      // Who still waits for a broker that is away waits no longer.
      giveUp: () => this.#abandon.abort(new ClosedError('broker')),
    })
  }

  async #open(given: BrokerContext): Promise<Opened> {
    this.#abandon = new AbortController()
    const signal = AbortSignal.any([given.signal, this.#abandon.signal])
    const context = { ...given, signal }
    const opened = new Opened(this.#options, context, (state) => this.#state.become(state))
    try {
      await opened.open(this.#options)
    } catch (error) {
      await opened.stop(context.clock.now() + UNDO_MS)
      this.#state.become(CLOSED)
      throw error
    }
    return opened
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
