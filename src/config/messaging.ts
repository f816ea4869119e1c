import type { Broker } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import { ClosedError } from '../contract/errors.ts'
import { timeoutOption } from '../contract/option.ts'
import type { InboxStore, OutboxStore } from '../contract/store.ts'
import { ReliableConsumer } from '../consume/consumer.ts'
import type { BatchOptions, Consumed, SingleOptions } from '../consume/options.ts'
import { withDeadline } from '../policy/deadline.ts'
import type { ReliablePublisher } from '../publish/publisher.ts'
import type { OutboxRelay } from '../publish/relay.ts'
import type { HoldfastConfig } from './define.ts'

/** How long draining or closing may take. */
export interface ClosingOptions {
  /** In milliseconds, for everything together. Default 20 000. */
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
  readonly clock: Clock
}

/** One part of ending: it is told a share of the time that is left when its turn comes. */
interface Step {
  readonly what: string
  readonly share: number
  readonly end: (within: { readonly timeoutMs: number }) => Promise<unknown> | undefined
}

/** What ending needs of a consumer. */
type Ending = Pick<ReliableConsumer, 'drain' | 'close'>

/**
 * A process's live messaging: one broker connection shared by a publisher, a relay where there is an
 * outbox, and any number of consumers.
 */
export class Messaging<OutboxTx, InboxTx> implements AsyncDisposable {
  readonly publisher: ReliablePublisher<OutboxTx>
  /** Runs already; null without an outbox or with `relay: false`. */
  readonly relay: OutboxRelay<OutboxTx> | null
  readonly #parts: Parts<OutboxTx, InboxTx>
  /** Those that have not ended. */
  readonly #consumers = new Set<Ending>()
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
    this.#consumers.add(consumer)
    void consumer.closed.then(() => this.#consumers.delete(consumer))
    return consumer
  }

  /**
   * Finishes what was begun, takes nothing new, then closes everything: consumers first, since their
   * handlers publish, then the publisher, then the relay, then the stores. Ends within `timeoutMs`:
   * what was not finished by then comes again, and what did not close is what it rejects with, several
   * as an `AggregateError`. Idempotent.
   */
  drain(options: ClosingOptions = {}): Promise<void> {
    const ms = timeoutOption('drain', options, 20_000)
    this.#ending ??= this.#end('drain', ms)
    return this.#ending
  }

  /** Stops now: running handlers are aborted, what was not settled comes again. Ends like `drain`. Idempotent. */
  close(options: ClosingOptions = {}): Promise<void> {
    const ms = timeoutOption('close', options, 20_000)
    this.#ending ??= this.#end('close', ms)
    return this.#ending
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.drain()
  }

  async #end(how: 'drain' | 'close', ms: number): Promise<void> {
    const { clock } = this.#parts
    const deadline = clock.now() + ms
    const failures: unknown[] = []
    for (const { what, share, end } of this.#steps(how)) {
      const now = clock.now()
      const left = Math.max(0, deadline - now)
      const within = { timeoutMs: Math.floor(left * share) }
      // One that takes more than it was told leaves some of the time to those after it.
      const until = now + (left * (1 + share)) / 2
      try {
        await withDeadline(clock, until, async () => end(within), what)
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length === 1) throw failures[0]
    if (failures.length > 1)
      throw new AggregateError(failures, 'several parts did not close cleanly')
  }

  /** Every one of them happens, whatever became of those before it. */
  #steps(how: 'drain' | 'close'): readonly Step[] {
    const { publisher, relay } = this
    const { outbox, inbox } = this.#parts
    const endConsumers: Step['end'] = (within) =>
      Promise.all([...this.#consumers].map((consumer) => consumer[how](within)))
    // What a flush cannot bring to its end is told to whoever published it.
    const flush: Step['end'] = (within) =>
      how === 'drain' ? publisher.flush(within).catch(() => undefined) : undefined
    const closeStores = (): Promise<unknown> => Promise.all([outbox?.close(), inbox?.close()])
    return [
      { what: 'ending the consumers', share: 0.6, end: endConsumers },
      { what: 'flushing the publisher', share: 0.5, end: flush },
      { what: 'closing the publisher', share: 0.4, end: (within) => publisher.close(within) },
      { what: 'ending the relay', share: 0.8, end: (within) => relay?.[how](within) },
      { what: 'closing outbox and inbox', share: 1, end: closeStores },
    ]
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
