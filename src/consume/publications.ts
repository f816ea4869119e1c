import type { Capabilities } from '../contract/capabilities.ts'
import { CapabilityError } from '../contract/errors.ts'
import { headerOf } from '../contract/message.ts'
import type { OutboxRow, OutboxStore } from '../contract/store.ts'
import type { Topic } from '../contract/topic.ts'
import { outboxRow } from '../send/outbox.ts'
import { type SealedEnvelope, type Sealing, seal } from '../send/seal.ts'
import type { AnyTopic } from './consumed-topic.ts'
import type { ProduceOptions } from './context.ts'
import type { Execution } from './execution.ts'
import { asError, failureOf } from './failure.ts'
import type { Held } from './held.ts'
import { derivedId, fitting } from './identity.ts'
import type { WithinStoreTime } from './store-time.ts'

/**
 * How what handlers publish is stored: with the inbox's transaction or by itself in the outbox, by a
 * confirmed send, or in the broker's own transaction together with the settling.
 */
export type PublishMode = 'outbox' | 'broker' | 'atomic'

/** What publishing from handlers needs. */
export interface PublicationOptions {
  readonly mode: PublishMode
  readonly sealing: Sealing
  readonly outbox: OutboxStore<unknown> | null
  readonly scheduledSend: Capabilities['scheduledSend']
  /** Resolves when confirmed. */
  readonly send: (envelope: SealedEnvelope) => Promise<unknown>
  readonly within: WithinStoreTime
  /** Told of every topic that is published to, before anything is sent. */
  readonly onPublish: (topic: AnyTopic) => void
}

/** What one run of a handler published so far; nothing of it is stored before the handler has ended. */
export class Publication {
  readonly envelopes: SealedEnvelope[] = []
  readonly #options: PublicationOptions
  readonly #origin: readonly Held[]
  readonly #sealing: Sealing

  constructor(options: PublicationOptions, origin: readonly Held[]) {
    this.#options = options
    this.#origin = origin
    this.#sealing = { ...options.sealing, traceparent: () => traceparentOf(origin) }
  }

  /** Seals the message and keeps it; throws what sealing throws. Returns its id. */
  add<In>(topic: Topic<In, unknown>, payload: In, options: ProduceOptions = {}): string {
    const id = options.id ?? this.#nextId()
    const envelope = seal(topic, payload, { ...options, id }, this.#sealing)
    if (envelope.deliverAtMs !== null) this.#refuseUnschedulable(topic.name)
    this.#options.onPublish(topic)
    this.envelopes.push(envelope)
    return id
  }

  /** Derived from all messages handled together; without ids there is nothing to derive it from. */
  #nextId(): string {
    const [first] = this.#origin
    const ids = this.#origin.map(({ message }) => message?.id ?? null)
    if (first === undefined || ids.includes(null)) return this.#sealing.ids.next()
    return derivedId(first.topic.consumer, fitting(ids.join('\n')), this.envelopes.length)
  }

  #refuseUnschedulable(topic: string): void {
    if (this.#options.mode === 'outbox' || this.#options.scheduledSend !== null) return
    throw new CapabilityError(
      `deliverAt: the broker of topic "${topic}" cannot deliver later; give the consumer an outbox, which can`,
    )
  }
}

/** Makes publications and stores what they hold. */
export class Publications {
  readonly #options: PublicationOptions

  constructor(options: PublicationOptions) {
    this.#options = options
  }

  open(origin: readonly Held[]): Publication {
    return new Publication(this.#options, origin)
  }

  /**
   * Stores what the handler of these messages published: all of it, before anything of them is
   * committed or settled. When that fails they are not done, and the publication must not count.
   */
  async store(handled: readonly Held[], execution: Execution, tx: unknown): Promise<void> {
    const envelopes = execution.publication?.envelopes ?? []
    const { mode, outbox, send } = this.#options
    try {
      if (mode === 'broker') await Promise.all(envelopes.map(send))
      else if (outbox !== null) await this.#append(outbox, tx, envelopes.map(outboxRow))
    } catch (cause) {
      execution.rollBack = true
      const outcome = failureOf(asError(cause))
      for (const held of handled) if (held.outcome?.kind === 'done') held.outcome = outcome
    }
  }

  /** Outside a transaction nothing else bounds it. */
  #append(outbox: OutboxStore<unknown>, tx: unknown, rows: readonly OutboxRow[]): Promise<void> {
    if (tx !== undefined) return outbox.append(tx, rows)
    return this.#options.within(() => outbox.appendAlone(rows), 'appending to the outbox')
  }

  /** True when what handlers publish is stored by `store`, not by the broker's transaction. */
  get separate(): boolean {
    return this.#options.mode !== 'atomic'
  }
}

function traceparentOf(origin: readonly Held[]): string | undefined {
  const [first] = origin
  if (first === undefined) return undefined
  const value = headerOf(first.delivery.envelope.headers, 'traceparent')
  return typeof value === 'string' ? value : undefined
}
