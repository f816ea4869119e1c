import { ClosedError } from '../contract/errors.ts'
import type { Headers } from '../contract/message.ts'
import type { Topic } from '../contract/topic.ts'
import type { PublishOptions } from '../send/seal.ts'
import type { Execution } from './execution.ts'
import type { Held } from './held.ts'
import type { Message } from './message.ts'
import type { Publications } from './publications.ts'

/** What a handler may say about a message it publishes. */
export type ProduceOptions = Omit<PublishOptions, 'deadlineMs' | 'signal'>

/** What single and batch handlers have in common. */
export interface CommonContext {
  readonly group: string
  /** Aborts at the deadline, when the source is taken away, and at shutdown. Made when it is read. */
  readonly signal: AbortSignal
  /** Milliseconds left until the deadline. */
  readonly deadlineMs: number
  /**
   * Publishes with the effect: checked and encoded now, stored after the handler has ended and before
   * the delivery is settled, in the same transaction where there is an outbox. Resolves with the id;
   * without `options.id` that is derived from this message, so handling it again publishes the same ids.
   */
  publish<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options?: ProduceOptions,
  ): Promise<{ readonly id: string }>
}

/** What a handler of single messages gets beside the payload. */
export interface HandlerContext<Payload = unknown> extends CommonContext {
  readonly message: Message<Payload>
  readonly topic: string
  readonly id: string | null
  readonly key: string | null
  readonly headers: Headers
  /** Number of this try, 1-based. */
  readonly attempt: number
  readonly redelivered: 'no' | 'maybe' | 'yes'
}

/** What a batch handler gets beside the messages. */
export type BatchContext = CommonContext

/** The context with the inbox's transaction, which exists only where there is an inbox. */
export type WithTransaction<Context, Tx> = [Tx] extends [never]
  ? Context
  : Context & { readonly tx: Tx }

/** Shared by both kinds; every part is made when it is read. */
class ExecutionContext implements CommonContext {
  readonly group: string
  readonly #execution: Execution
  readonly #publications: Publications
  readonly #origin: readonly Held[]
  readonly #tx: unknown

  constructor(
    group: string,
    execution: Execution,
    publications: Publications,
    origin: readonly Held[],
    tx: unknown,
  ) {
    this.group = group
    this.#execution = execution
    this.#publications = publications
    this.#origin = origin
    this.#tx = tx
  }

  get signal(): AbortSignal {
    return this.#execution.signal
  }

  get deadlineMs(): number {
    return this.#execution.leftMs
  }

  /** Not for a handler that outlived its deadline: its transaction is rolled back by then. */
  get tx(): unknown {
    if (this.#execution.over) throw new ClosedError('the transaction of this handler')
    return this.#tx
  }

  /** Bound when it is read, so that it can be taken out of the context. */
  get publish(): CommonContext['publish'] {
    return (topic, payload, options) => this.#publish(topic, payload, options)
  }

  async #publish<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options?: ProduceOptions,
  ): Promise<{ readonly id: string }> {
    const execution = this.#execution
    if (execution.over) throw new ClosedError('the context of this handler')
    const publication = (execution.publication ??= this.#publications.open(this.#origin))
    return { id: publication.add(topic, payload, options) }
  }
}

/** The context of one message. */
export class MessageContext extends ExecutionContext implements HandlerContext {
  readonly message: Message

  constructor(
    message: Message,
    group: string,
    execution: Execution,
    publications: Publications,
    origin: readonly Held[],
    tx: unknown,
  ) {
    super(group, execution, publications, origin, tx)
    this.message = message
  }

  get topic(): string {
    return this.message.topic
  }

  get id(): string | null {
    return this.message.id
  }

  get key(): string | null {
    return this.message.key
  }

  get headers(): Headers {
    return this.message.headers
  }

  get attempt(): number {
    return this.message.attempt
  }

  get redelivered(): 'no' | 'maybe' | 'yes' {
    return this.message.redelivered
  }
}

/** The context of a batch. */
export class SharedContext extends ExecutionContext implements BatchContext {}
