import { CapabilityError, ClosedError, HoldfastError, OptionError } from '../contract/errors.ts'
import type { EventType } from '../contract/events.ts'
import { checkObject, integerOption, timeoutOption } from '../contract/option.ts'
import type { OutboxStore } from '../contract/store.ts'
import type { Topic } from '../contract/topic.ts'
import { UuidSource } from '../contract/uuid.ts'
import { Emitter, type Listener } from '../observe/emitter.ts'
import { logEvents } from '../observe/logging.ts'
import { withDeadline } from '../policy/deadline.ts'
import { Dispatcher, type SendOptions } from '../send/deliver.ts'
import { openStore } from '../send/open-store.ts'
import { outboxRow } from '../send/outbox.ts'
import { checkSize } from '../send/outcome.ts'
import { seal, type PublishOptions, type SealedEnvelope, type Sealing } from '../send/seal.ts'
import { Session } from '../send/session.ts'
import { PublishBatch } from './batch.ts'
import { DeclaredTopics } from './declared-topics.ts'
import { OutboxDiversion } from './diversion.ts'
import {
  resolvePublisherOptions,
  type PublisherOptions,
  type ResolvedPublisherOptions,
} from './options.ts'
import { published, type BatchOutcome, type Published } from './published.ts'
import { countAtExit } from './unconfirmed.ts'

/** How long `open`, `flush` and `close` may take. */
export interface TimeoutOptions {
  /** In milliseconds. Default 30 000 for `open` and `flush`, 10 000 for `close`. */
  readonly timeoutMs?: number
}

/** Options of messages that go into the outbox: the transaction decides how long it takes. */
export type InsertOptions = Omit<PublishOptions, 'deadlineMs' | 'signal'>

/** Options for the messages of a batch: the same for all, or by payload and index. */
export type EachOptions<In, Options extends PublishOptions = PublishOptions> =
  Omit<Options, 'id'> | ((payload: In, index: number) => Options)

const SENT_IN_CLOSE = 0.8
const noTopic = Symbol('no topic')

/**
 * Publishes messages and tells truthfully what became of each. A promise that resolves means stored:
 * by the broker at the strongest level it offers (`via: 'broker'`), or by the outbox that will bring
 * it there. One that rejects with a `PublishRefusedError` means definitely not stored, with an
 * `OutcomeUnknownError` perhaps stored. Messages of one key keep their order. Works while the broker
 * is down: `publish` waits within its deadline, `publishIn` does not need it at all.
 */
export class ReliablePublisher<Tx = unknown> implements AsyncDisposable {
  readonly #options: ResolvedPublisherOptions<Tx>
  readonly #emitter: Emitter
  readonly #session: Session
  readonly #sealing: Sealing
  readonly #topics: DeclaredTopics
  readonly #diversion: OutboxDiversion | null
  readonly #dispatcher: Dispatcher<Published>
  readonly #batches = new Set<Promise<unknown>>()
  readonly #forget: () => void
  #lastTopic: unknown = noTopic
  #storeIsOpen = false
  #closing: Promise<void> | null = null

  /** Does no I/O. Throws an `OptionError` with name, value and range of an option that is wrong. */
  constructor(options: PublisherOptions<Tx>) {
    const resolved = resolvePublisherOptions(options)
    const { broker, clock, random, crash, source, traceparent } = resolved
    this.#options = resolved
    this.#emitter = new Emitter(resolved.on)
    logEvents(this.#emitter, resolved.logging)
    const { emit } = this.#emitter
    this.#session = Session.join(broker, { clock, random, crash, emit })
    const ids = new UuidSource(clock, random)
    this.#sealing = { source, ids, clock, ...(traceparent === null ? {} : { traceparent }) }
    this.#topics = new DeclaredTopics(resolved.topics, resolved.topology)
    this.#diversion = this.#newDiversion()
    this.#dispatcher = this.#newDispatcher()
    const dispatcher = this.#dispatcher
    this.#forget = countAtExit({
      emit,
      get outstanding() {
        return dispatcher.outstanding
      },
    })
  }

  /** Messages published and not ended. */
  get outstanding(): number {
    return this.#dispatcher.outstanding
  }

  /** Adds a listener, for all events or for those named; returns how to remove it. */
  on(listener: Listener, types?: readonly EventType[]): () => void {
    return this.#emitter.on(listener, types)
  }

  /**
   * Opens broker and outbox now instead of with the first message; resolves when both are open. Rejects
   * with code `timeout` when that takes longer; they are opened in the background all the same.
   */
  async open(options: TimeoutOptions = {}): Promise<void> {
    this.#refuseIfClosed()
    const { clock } = this.#options
    const deadline = clock.now() + timeoutOption('open', options, 30_000, 1)
    this.#dispatcher.open()
    const opened = async (): Promise<void> => {
      await Promise.all([this.#session.ready(), this.#openStore()])
    }
    await withDeadline(clock, deadline, opened, 'opening the publisher')
  }

  /**
   * Publishes one message. Rejects with a `SchemaError`, `CodecError`, `OptionError` or `ClosedError`
   * when it is not fit to be sent, with a `BufferFullError` when there is no room for it.
   */
  publish<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options?: PublishOptions,
  ): Promise<Published> {
    try {
      const envelope = this.#seal(topic, payload, options)
      // No async function here: the one promise is the one that is returned.
      if (options === undefined) return this.#dispatcher.send(envelope)
      return this.#dispatcher.send(envelope, this.#limits(options))
    } catch (error) {
      return rejected(error)
    }
  }

  /**
   * Publishes a list and resolves with one outcome per message, in order; a message that ends badly
   * does not reject. Options are those of `publish`, for all or by a function of payload and index.
   */
  publishBatch<In>(
    topic: Topic<In, unknown>,
    payloads: readonly In[],
    options?: EachOptions<In>,
  ): Promise<readonly BatchOutcome[]> {
    try {
      this.#refuseIfClosed()
      const optionsOf = eachOptions(payloads, options)
      const shared = this.#limits(typeof options === 'object' ? options : {})
      const batch = new PublishBatch(payloads.length, {
        seal: (index) => this.#seal(topic, payloads[index] as In, optionsOf(index)),
        offer: (index, envelope, ticket) => {
          const limits =
            typeof options === 'function' ? this.#limits(optionsOf(index) ?? {}) : shared
          this.#dispatcher.offer(envelope, limits, ticket)
        },
        window: this.#options.buffer.messages,
      })
      return this.#remembered(batch.start())
    } catch (error) {
      return rejected(error)
    }
  }

  /**
   * Puts one message into the outbox in the caller's transaction: it is published when that commits,
   * and never when it rolls back. Rejects with code `not-a-transaction` when `tx` is none, with a
   * `CapabilityError` without an outbox. Where transactions are synchronous, call `open()` before.
   */
  publishIn<In>(
    tx: Tx,
    topic: Topic<In, unknown>,
    payload: In,
    options?: InsertOptions,
  ): Promise<Published> {
    try {
      const store = this.#outbox('publishIn')
      const envelope = this.#sealFor(topic, payload, options)
      return this.#append(store, tx, [envelope]).then(() => insertedOf(envelope))
    } catch (error) {
      return rejected(error)
    }
  }

  /** Like `publishIn` for a list: all of it or nothing, also where the error is caught. */
  publishBatchIn<In>(
    tx: Tx,
    topic: Topic<In, unknown>,
    payloads: readonly In[],
    options?: EachOptions<In, InsertOptions>,
  ): Promise<readonly Published[]> {
    try {
      const store = this.#outbox('publishBatchIn')
      const optionsOf = eachOptions(payloads, options)
      const envelopes = payloads.map((payload, index) =>
        this.#sealFor(topic, payload, optionsOf(index)),
      )
      if (envelopes.length === 0) return Promise.resolve([])
      return this.#append(store, tx, envelopes).then(() => envelopes.map(insertedOf))
    } catch (error) {
      return rejected(error)
    }
  }

  /** Resolves when everything published before has ended; rejects with code `timeout` when that takes longer. */
  flush(options: TimeoutOptions = {}): Promise<void> {
    const { clock } = this.#options
    const deadline = clock.now() + timeoutOption('flush', options, 30_000)
    const what = `the outcome of ${this.outstanding} messages`
    const flushed = async (): Promise<void> => {
      await Promise.all([this.#dispatcher.flush(deadline), ...this.#batches])
    }
    return withDeadline(clock, deadline, flushed, what)
  }

  /**
   * Stops: what was not handed to the broker is refused, what was is waited for and then unknown.
   * Each publish is told; `flush` first to lose nothing. Idempotent.
   */
  close(options: TimeoutOptions = {}): Promise<void> {
    const ms = timeoutOption('close', options, 10_000)
    this.#closing ??= this.#close(ms)
    return this.#closing
  }

  /** `flush`, then `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    // What a flush could not bring to its end was told to whoever published it.
    if (this.#closing === null) await this.flush().catch(() => undefined)
    await this.close()
  }

  #seal<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options: PublishOptions | undefined,
  ): SealedEnvelope {
    this.#refuseIfClosed()
    if (topic !== this.#lastTopic) this.#meet(topic)
    return seal(topic, payload, options, this.#sealing)
  }

  #sealFor<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options: InsertOptions | undefined,
  ): SealedEnvelope {
    refuseLimits(options)
    const envelope = this.#seal(topic, payload, options)
    const { capabilities } = this.#session
    if (capabilities !== null) checkSize(envelope, topic.name, capabilities.limits(topic.name))
    return envelope
  }

  #meet(topic: Pick<Topic, 'name' | 'ordering' | 'codec'>): void {
    if (typeof topic?.codec?.encode !== 'function') {
      throw new HoldfastError('topic', 'the first argument has to be made by topic("…")')
    }
    this.#topics.met(topic.name, topic.ordering)
    this.#lastTopic = topic
  }

  #limits({ deadlineMs, signal }: PublishOptions): SendOptions {
    const ms = integerOption('publish.deadlineMs', deadlineMs, this.#options.deadlineMs, { min: 1 })
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new OptionError('publish.signal', signal, 'an AbortSignal')
    }
    return { deadline: this.#options.clock.now() + ms, signal }
  }

  #outbox(what: string): OutboxStore<Tx> {
    this.#refuseIfClosed()
    const { outbox } = this.#options
    if (outbox !== null) return outbox
    throw new CapabilityError(`${what} needs an outbox: give the publisher the option outbox`)
  }

  #append(store: OutboxStore<Tx>, tx: Tx, envelopes: readonly SealedEnvelope[]): Promise<void> {
    const append = (): Promise<void> => store.append(tx, envelopes.map(outboxRow))
    // At once when it can be: a synchronous transaction would be over in the next turn.
    return this.#storeIsOpen ? append() : this.#openStore().then(append)
  }

  async #openStore(): Promise<void> {
    const { outbox, clock, crash } = this.#options
    if (outbox === null) return
    await openStore(outbox, { clock, crash, emit: this.#emitter.emit })
    this.#storeIsOpen = true
  }

  #remembered<T>(batch: Promise<T>): Promise<T> {
    this.#batches.add(batch)
    void batch.finally(() => this.#batches.delete(batch))
    return batch
  }

  #refuseIfClosed(): void {
    if (this.#closing !== null) throw new ClosedError('publisher')
  }

  async #close(timeoutMs: number): Promise<void> {
    const now = this.#options.clock.now()
    await this.#dispatcher.close(now + timeoutMs * SENT_IN_CLOSE)
    this.#diversion?.close()
    this.#forget()
    await this.#session.leave(now + timeoutMs).catch((error: Error) => {
      this.#emitter.emit({ type: 'warning', code: 'close', message: error.message })
    })
  }

  #newDiversion(): OutboxDiversion | null {
    const { divert, outbox, clock } = this.#options
    if (!divert || outbox === null) return null
    return new OutboxDiversion({
      store: outbox,
      opened: () => this.#openStore(),
      clock,
      changed: () => this.#dispatcher.release(),
    })
  }

  #newDispatcher(): Dispatcher<Published> {
    const { clock, random, deadlineMs, retry, breaker, buffer } = this.#options
    return new Dispatcher<Published>({
      session: this.#session,
      purpose: 'publish',
      result: published,
      clock,
      random,
      emit: this.#emitter.emit,
      deadlineMs,
      retry,
      breaker,
      bounds: buffer,
      prepare: (topic, first) => this.#topics.prepare(topic, first, this.#session),
      diversion: this.#diversion,
    })
  }
}

function insertedOf(envelope: SealedEnvelope): Published {
  return published(envelope, { at: null, attempts: 1, possiblyDuplicated: false, via: 'outbox' })
}

function eachOptions<In, Options extends PublishOptions>(
  payloads: readonly In[],
  options: EachOptions<In, Options> | undefined,
): (index: number) => Options | undefined {
  if (!Array.isArray(payloads)) throw new OptionError('payloads', payloads, 'a list')
  if (typeof options === 'function') return (index) => options(payloads[index] as In, index)
  if (options === undefined) return () => undefined
  checkObject('publishBatch', options)
  if ('id' in options) {
    throw new OptionError('publishBatch.id', 'the same for all', 'options by (payload, index) => …')
  }
  return () => options as Options
}

function refuseLimits(options: PublishOptions | undefined): void {
  if (options?.deadlineMs === undefined && options?.signal === undefined) return
  throw new OptionError(
    options.signal === undefined ? 'publishIn.deadlineMs' : 'publishIn.signal',
    options.signal ?? options.deadlineMs,
    'nothing: the transaction decides how long it takes and whether it is given up',
  )
}

/** What is wrong with the call is told like everything else: by the promise. */
function rejected(error: unknown): Promise<never> {
  return Promise.reject(error instanceof Error ? error : new Error(String(error)))
}
