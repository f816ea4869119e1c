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
import { ClosedError } from '../../src/contract/errors.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'
import { rewind } from './anchors.ts'
import { audit } from './audit.ts'
import { incoming } from './incoming.ts'
import { KafkaInspector, type Insight } from './inspector.ts'
import { Opened } from './opened.ts'
import { resolveOptions, type KafkaOptions, type Resolved } from './options.ts'
import { KafkaReceiver } from './receiver.ts'
import { KafkaSender } from './sender.ts'

const CLOSED: BrokerState = Object.freeze({ status: 'down', reason: 'not open' })

/**
 * Kafka 4.x, through kafkajs. 'confirmed' means that the record is in the log of the partition's leader
 * and of every copy that is in sync, at least `min.insync.replicas` of them. Throws an `OptionError`; does
 * no I/O before `open`.
 */
export function kafka(options: KafkaOptions): Broker {
  return new KafkaBroker(resolveOptions(options))
}

class KafkaBroker implements Broker {
  readonly name = 'kafka'
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
    this.inspect = new KafkaInspector(() => insightOf(this.#here()))
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
    return this.#here().provisioner.provision(topology, mode)
  }

  async audit(topology: Topology): Promise<readonly Finding[]> {
    const { drivers, topics } = this.#here()
    return audit(topology, { admin: drivers.admin, topics, options: this.#options })
  }

  sender(purpose: 'publish' | 'relay' | 'settle'): Sender {
    const { drivers, topics, capabilities, context, health } = this.#here()
    const name = `${purpose} ${++this.#named}`
    const sender = new KafkaSender({
      driver: drivers.producer,
      topics,
      limits: (topic) => capabilities.limits(topic),
      options: this.#options,
      context,
      purpose,
      health: health.tell(name),
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
    const { drivers, topics, capabilities, context, health } = opened
    await prepare(subscription, opened)
    const name = `group "${subscription.group}" ${++this.#named}`
    const receiver = new KafkaReceiver({
      driver: drivers.consumer,
      topics,
      options: this.#options,
      context,
      subscription,
      sink,
      health: health.tell(name),
      produces: { topics, limits: (topic) => capabilities.limits(topic), options: this.#options },
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
    const opened = await Opened.open(this.#options, context, (state) => this.#become(state))
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
    // Who is still waiting for a cluster that is away waits no longer; what is open ends in its order.
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

/** Puts new groups where they start, and looks whether what is in their topics can be read here. */
async function prepare(
  { topics: wanted, group, from }: Subscription,
  { drivers, topics }: Opened,
): Promise<void> {
  const { admin, consumer } = drivers
  for (const topic of wanted) {
    const names = topics.names(topic)
    if (from === 'earliest') await rewind(admin, names.groupId(group), names.topic)
    const layout = await topics.look(names.topic)
    if (layout !== null) await consumer.checkReading(layout.compression)
  }
}

function insightOf({ drivers, topics }: Opened): Insight {
  return {
    admin: drivers.admin,
    topics,
    open: (record, { topic, partition }, to) => {
      const name = `${topic}/${partition}`
      const envelope = incoming(record, { topic, partition, to, ordering: 'key', name })
      envelope.detach()
      return envelope
    },
  }
}

/** Tells when somebody closed it, so that it counts no more in the broker's state. */
function onClosed(part: Sender | Receiver, told: () => void): void {
  const close = part.close.bind(part)
  part.close = (deadline) => close(deadline).finally(told)
}
