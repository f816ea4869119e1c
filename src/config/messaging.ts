import type { Broker } from '../contract/broker.ts'
import { ClosedError } from '../contract/errors.ts'
import type { InboxStore, OutboxStore } from '../contract/store.ts'
import { ReliableConsumer } from '../consume/consumer.ts'
import type { BatchOptions, Consumed, SingleOptions } from '../consume/options.ts'
import type { ReliablePublisher } from '../publish/publisher.ts'
import type { OutboxRelay } from '../publish/relay.ts'
import type { HoldfastConfig } from './define.ts'

/** How long draining or closing may take. */
export interface ClosingOptions {
  /** Default 20 000. */
  readonly timeoutMs?: number
}

/** What the config already says, so that a consumer of a `Messaging` is not told again. */
type Configured = 'broker' | 'topic' | 'handler' | 'inbox' | 'outbox' | 'topics' | 'topology'

/** What `connect()` put together. */
export interface Parts<OutboxTx, InboxTx> {
  readonly config: HoldfastConfig
  readonly broker: Broker
  readonly outbox: OutboxStore<OutboxTx> | null
  readonly inbox: InboxStore<InboxTx> | null
  /** The outbox again where handlers can write to it in the inbox's transaction, else null. */
  readonly handlerOutbox: OutboxStore<InboxTx> | null
  readonly publisher: ReliablePublisher<OutboxTx>
  readonly relay: OutboxRelay<OutboxTx> | null
}

/**
 * A process's live messaging: one broker connection shared by a publisher, a relay where there is an
 * outbox, and any number of consumers.
 */
export class Messaging<OutboxTx, InboxTx> implements AsyncDisposable {
  readonly publisher: ReliablePublisher<OutboxTx>
  /** Runs already; null without an outbox or with `relay: false`. */
  readonly relay: OutboxRelay<OutboxTx> | null
  readonly #parts: Parts<OutboxTx, InboxTx>
  readonly #consumers: {
    drain(o: ClosingOptions): Promise<void>
    close(o: ClosingOptions): Promise<void>
  }[] = []
  #ending: Promise<void> | null = null

  constructor(parts: Parts<OutboxTx, InboxTx>) {
    this.#parts = parts
    this.publisher = parts.publisher
    this.relay = parts.relay
  }

  /** Makes a consumer of single messages; it receives nothing before its `start()`. */
  consumer<const T extends Consumed>(
    topic: T,
    options: Omit<SingleOptions<T, InboxTx>, Configured>,
    handler: SingleOptions<T, InboxTx>['handler'],
  ): ReliableConsumer<T, InboxTx>
  /** Makes a consumer of batches; it receives nothing before its `start()`. */
  consumer<const T extends Consumed>(
    topic: T,
    options: Omit<BatchOptions<T, InboxTx>, Configured>,
    handler: BatchOptions<T, InboxTx>['handler'],
  ): ReliableConsumer<T, InboxTx>
  consumer<T extends Consumed>(topic: T, options: object, handler: unknown): unknown {
    if (this.#ending !== null) throw new ClosedError('messaging')
    const { config, broker, inbox, handlerOutbox } = this.#parts
    const consumer = new ReliableConsumer<T, InboxTx>({
      ...told(config),
      ...options,
      broker,
      topic,
      handler,
      ...(inbox === null ? {} : { inbox }),
      ...(handlerOutbox === null ? {} : { outbox: handlerOutbox }),
    } as SingleOptions<T, InboxTx>)
    this.#consumers.push(consumer)
    return consumer
  }

  /**
   * Finishes what was begun, takes nothing new, then closes everything: consumers first, since their
   * handlers publish, then the publisher, then the relay, then the stores. Idempotent.
   */
  drain(options: ClosingOptions = {}): Promise<void> {
    this.#ending ??= this.#end(options, 'drain')
    return this.#ending
  }

  /** Stops now: running handlers are aborted, what was not settled comes again. Idempotent. */
  close(options: ClosingOptions = {}): Promise<void> {
    this.#ending ??= this.#end(options, 'close')
    return this.#ending
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.drain()
  }

  async #end({ timeoutMs = 20_000 }: ClosingOptions, how: 'drain' | 'close'): Promise<void> {
    const { outbox, inbox } = this.#parts
    const within = { timeoutMs }
    const steps = [
      () => Promise.all(this.#consumers.map((consumer) => consumer[how](within))),
      // What a flush cannot bring to its end is told to whoever published it.
      () => (how === 'drain' ? this.publisher.flush(within).catch(() => undefined) : undefined),
      () => this.publisher.close(within),
      () => this.relay?.[how](within),
      () => Promise.all([outbox?.close(), inbox?.close()]),
    ]
    const failures: unknown[] = []
    for (const step of steps) {
      try {
        await step()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length === 1) throw failures[0]
    if (failures.length > 1)
      throw new AggregateError(failures, 'several parts did not close cleanly')
  }
}

/** What publisher, relay and consumers are all told. */
export function told({
  topics,
  topology,
  on,
  logging,
}: HoldfastConfig): Pick<HoldfastConfig, 'topics' | 'topology' | 'on' | 'logging'> {
  return {
    ...(topics === undefined ? {} : { topics }),
    ...(topology === undefined ? {} : { topology }),
    ...(on === undefined ? {} : { on }),
    ...(logging === undefined ? {} : { logging }),
  }
}
