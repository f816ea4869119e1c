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
  HoldfastError,
  type PublishRefusedError,
} from '../../src/contract/errors.ts'
import { integerOption } from '../../src/contract/option.ts'
import type { Finding, Topology } from '../../src/contract/topology.ts'
import { UuidSource } from '../../src/contract/uuid.ts'
import { Lifetime } from '../../src/policy/lifetime.ts'
import { Observed } from '../../src/policy/observed.ts'
import { EnvelopeRows } from '../sql/envelope.ts'
import { brokerSql, brokerTables, QUEUE_KIND } from './broker-schema.ts'
import { capabilitiesOf } from './capabilities.ts'
import { ensureSchema } from './ensure-schema.ts'
import { storageError } from './errors.ts'
import type { SqliteFile } from './file.ts'
import { SqliteInspector } from './inspector.ts'
import type { Queue } from './intake.ts'
import { resolveFile, type FileOptions, type ResolvedFile } from './options.ts'
import { SqliteReceiver } from './receiver.ts'
import { SqliteSender } from './sender.ts'
import { refusalInside } from './refusal.ts'
import { isSameFile, shareFile, type FileShare } from './share.ts'
import { auditFile, createTopology, missingTopology } from './topology.ts'

/** Options of `sqlite`. */
export interface SqliteBrokerOptions extends FileOptions {
  /** After a crash its messages come to others this much later. Renewed three times as often. Default 10 000, at least 500. */
  readonly leaseMs?: number
  /** How often other processes' publishes are looked for. Default 20. */
  readonly pollMs?: number
  /** Largest body. Default 16 MiB. */
  readonly maxBodyBytes?: number
}

interface Resolved extends ResolvedFile {
  readonly leaseMs: number
  readonly pollMs: number
  readonly maxBodyBytes: number
}

/** What there is while the broker is open. */
interface Opened {
  readonly context: BrokerContext
  readonly share: FileShare
  readonly capabilities: Capabilities
  readonly ids: UuidSource
  readonly stopListening: () => void
}

const CLOSED: BrokerState = Object.freeze({ status: 'down', reason: 'not open' })

/**
 * A durable broker in a file, for processes of one machine: no server, any number of processes.
 * 'confirmed' means committed with `synchronous = FULL`. Throws an `OptionError`; does no I/O before
 * `open`.
 */
export function sqlite(options: SqliteBrokerOptions): Broker {
  return new SqliteBroker({
    ...resolveFile('sqlite', options, ['leaseMs', 'pollMs', 'maxBodyBytes']),
    leaseMs: integerOption('leaseMs', options.leaseMs, 10_000, { min: 500, max: 86_400_000 }),
    pollMs: integerOption('pollMs', options.pollMs, 20, { min: 1, max: 60_000 }),
    maxBodyBytes: integerOption('maxBodyBytes', options.maxBodyBytes, 16_777_216, {
      min: 1,
      max: 500_000_000,
    }),
  })
}

class SqliteBroker implements Broker {
  readonly name = 'sqlite'
  readonly inspect: Inspector
  readonly #options: Resolved
  readonly #rows = new EnvelopeRows()
  readonly #lifetime = new Lifetime<Opened>('broker')
  readonly #state = new Observed<BrokerState>(CLOSED)

  constructor(options: Resolved) {
    this.#options = options
    this.inspect = new SqliteInspector(() => this.#lifetime.here().share.file, this.#rows)
  }

  async open(context: BrokerContext): Promise<Capabilities> {
    const { capabilities } = await this.#lifetime.open(() => this.#open(context))
    return capabilities
  }

  async provision(topology: Topology, mode: 'create' | 'verify'): Promise<readonly Finding[]> {
    const { share, context } = this.#lifetime.here()
    const { file } = share
    if (this.#read(file, () => missingTopology(file.reader, topology)).length > 0) {
      if (mode === 'create') {
        const deadline = context.clock.now() + this.#options.busyMs
        await file.writer.write(deadline, (db) => createTopology(db, topology))
      }
    }
    return this.#read(file, () => missingTopology(file.reader, topology))
  }

  async audit(_topology: Topology): Promise<readonly Finding[]> {
    const { file } = this.#lifetime.here().share
    return this.#read(file, () => auditFile(file))
  }

  sender(purpose: 'publish' | 'relay' | 'settle'): Sender {
    const { share, context } = this.#lifetime.here()
    const { maxBodyBytes } = this.#options
    const sender = new SqliteSender({
      file: share.file,
      clock: context.clock,
      purpose,
      rows: this.#rows,
      maxBodyBytes,
    })
    this.#lifetime.senders.add(sender)
    return sender
  }

  refusal(purpose: 'publish' | 'relay' | 'settle'): PublishRefusedError | null {
    return refusalInside(purpose, (path) => isSameFile(path, this.#options.file))
  }

  async receive(subscription: Subscription, sink: DeliverySink): Promise<Receiver> {
    const { share, context, ids, capabilities } = this.#lifetime.here()
    if (!capabilities.ordering.includes(subscription.ordering)) {
      const text = `ordering '${subscription.ordering}' is not kept by the SQLite broker; it keeps: ${capabilities.ordering.join(', ')}`
      throw new CapabilityError(text)
    }
    if (subscription.from === 'earliest') {
      const text = `group "${subscription.group}": from 'earliest' needs history, which the SQLite broker does not keep: use from 'now', the group gets everything from its declaration on`
      throw new CapabilityError(text)
    }
    const queues = this.#queues(share.file, subscription)
    const { clock, emit } = context
    const { leaseMs, pollMs } = this.#options
    const receiver = new SqliteReceiver(
      {
        file: share.file,
        clock,
        emit,
        rows: this.#rows,
        owner: ids.next(),
        leaseMs,
        pollMs,
        queues,
      },
      subscription,
      sink,
    )
    this.#lifetime.receivers.add(receiver)
    return receiver
  }

  onState(listener: (state: BrokerState) => void): () => void {
    return this.#state.listen(listener)
  }

  close(deadline: Deadline): Promise<void> {
    const end = async ({ share, stopListening }: Opened): Promise<void> => {
      stopListening()
      this.#state.become(CLOSED)
      await share.leave()
    }
    return this.#lifetime.close(deadline, { end })
  }

  async #open(context: BrokerContext): Promise<Opened> {
    const { clock, random, signal } = context
    // Waits as long as somebody has the file locked; what waiting cannot help rejects at once.
    const share = await shareFile(this.#options, { clock, random, signal, deadline: Infinity })
    try {
      const part = { name: 'broker', version: 1, tables: brokerTables } as const
      await ensureSchema(share.file, part, this.#options.schema, clock.now() + this.#options.busyMs)
    } catch (error) {
      await share.leave()
      throw error
    }
    const { health } = share.file.writer
    this.#state.become(health.state)
    const capabilities = capabilitiesOf(this.#options.maxBodyBytes)
    const stopListening = health.onChange((state) => this.#state.become(state))
    const ids = new UuidSource(clock, random)
    return { context, share, capabilities, ids, stopListening }
  }

  #queues(file: SqliteFile, { topics, group }: Subscription): readonly Queue[] {
    return topics.map((topic) => {
      const find = (): number | undefined =>
        file.reader.get(brokerSql.findQueue, topic, group, QUEUE_KIND.group)?.['id'] as
          number | undefined
      const id = this.#read(file, find)
      if (id !== undefined) return { id, topic, group }
      const text = `group "${group}" of topic "${topic}" is not in ${file.path}: declare it in topics.${topic}.groups, or let topology: 'create' make it`
      throw new HoldfastError('topology', text, { topic })
    })
  }

  #read<T>(file: SqliteFile, work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw storageError(error, file.path, 'reading')
    }
  }
}
