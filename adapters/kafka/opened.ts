import type { BrokerContext, BrokerState, Deadline } from '../../src/contract/broker.ts'
import { sleep } from '../../src/contract/clock.ts'
import type { Capabilities } from '../../src/contract/capabilities.ts'
import { isHoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { capabilitiesOf } from './capabilities.ts'
import { openDrivers, type Drivers } from './drivers.ts'
import { PartsHealth } from './health.ts'
import type { Resolved } from './options.ts'
import { Pulse } from './pulse.ts'
import { TopicTable } from './topics.ts'
import { Provisioner } from './topology.ts'

/** How long one try to reach the cluster may take. */
const TRY_MS = 10_000
/** How long what was begun may take to end after opening failed. */
const UNDO_MS = 2_000

/** Full jitter: after an outage not all clients come back at once. */
const backoff = exponential({ initialMs: 100, maxMs: 10_000 })

/** Everything there is while the broker is open. */
export class Opened {
  readonly context: BrokerContext
  readonly drivers: Drivers
  readonly topics: TopicTable
  readonly provisioner: Provisioner
  readonly capabilities: Capabilities
  readonly health: PartsHealth
  readonly #pulse: Pulse

  private constructor(
    options: Resolved,
    context: BrokerContext,
    drivers: Drivers,
    onState: (state: BrokerState) => void,
  ) {
    const { clock, emit } = context
    const { admin, producer, consumer } = drivers
    this.context = context
    this.drivers = drivers
    this.topics = new TopicTable({ admin, clock, emit, options })
    const { topics } = this
    this.provisioner = new Provisioner({ admin, topics, options, clock, emit })
    const caps = { producer: producer.caps, consumer: consumer.caps }
    const layoutOf = (topic: string) => topics.find(topics.names(topic).topic)
    this.capabilities = capabilitiesOf(caps, options, layoutOf)
    this.health = new PartsHealth(onState)
    this.#pulse = new Pulse({ admin, clock, health: this.health.tell('cluster') })
  }

  /**
   * Loads the clients and reaches the cluster, as often as it takes. Rejects when the context's signal
   * aborts, or when trying again cannot help, and leaves nothing open then.
   */
  static async open(
    options: Resolved,
    context: BrokerContext,
    onState: (state: BrokerState) => void,
  ): Promise<Opened> {
    const drivers = await openDrivers(options, context)
    try {
      await reached(drivers, context, onState)
    } catch (error) {
      await drivers.close(context.clock.now() + UNDO_MS)
      throw error
    }
    const opened = new Opened(options, context, drivers, onState)
    opened.health.tell('cluster')('up', null)
    opened.#pulse.start()
    return opened
  }

  /** Never rejects. */
  async stop(deadline: Deadline): Promise<void> {
    this.health.end()
    await this.#pulse.stop(deadline)
    await this.drivers.close(deadline)
  }
}

async function reached(
  { admin }: Drivers,
  { clock, random, signal }: BrokerContext,
  onState: (state: BrokerState) => void,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted()
    try {
      const deadline = clock.now() + TRY_MS
      const ping = (): Promise<void> => admin.ping(deadline)
      return await withDeadline(clock, deadline, ping, 'reaching the cluster', signal)
    } catch (error) {
      signal.throwIfAborted()
      if (!isHoldfastError(error) || !passing.has(error.code)) throw error
      if (attempt === 1) onState({ status: 'down', reason: error.message })
      await sleep(clock, backoff.delayFor(attempt, random), signal)
    }
  }
}

/** Codes of what another try may not meet. */
const passing: ReadonlySet<string> = new Set(['connection-lost', 'unavailable', 'timeout'])
