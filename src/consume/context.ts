import { ClosedError } from '../contract/errors.ts'
import type { Headers } from '../contract/message.ts'
import type { Topic } from '../contract/topic.ts'
import type { PublishOptions } from '../send/seal.ts'
import { Execution, type ExecutionOptions } from './execution.ts'
import { asError } from './failure.ts'
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
   * Rejects when it is not fit to be sent; a rejection that the handler never looks at fails its try.
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

/** What all contexts of a consumer share. */
export interface ContextOptions {
  readonly group: string
  readonly publications: Publications
  readonly execution: ExecutionOptions
}

/**
 * Shared by both kinds; every part is made when it is needed. A synchronous handler that reads none
 * of it never has an execution.
 */
export class ExecutionContext implements CommonContext {
  readonly #together: readonly Held[]
  readonly #tx: unknown
  readonly #options: ContextOptions
  #execution: Execution | null = null
  #isOver = false

  constructor(together: readonly Held[], tx: unknown, options: ContextOptions) {
    this.#together = together
    this.#tx = tx
    this.#options = options
  }

  /** The run of the handler that has this context. */
  static executionOf(context: ExecutionContext): Execution {
    if (context.#execution === null) {
      context.#execution = new Execution(context.#together, context.#options.execution)
      for (const held of context.#together) held.execution = context.#execution
      if (context.#isOver) context.#execution.end()
    }
    return context.#execution
  }

  /** The handler has ended; returns its execution when it needed one. */
  static end(context: ExecutionContext): Execution | null {
    context.#isOver = true
    context.#execution?.end()
    return context.#execution
  }

  get group(): string {
    return this.#options.group
  }

  get signal(): AbortSignal {
    return ExecutionContext.executionOf(this).signal
  }

  get deadlineMs(): number {
    return ExecutionContext.executionOf(this).leftMs
  }

  /** Not for a handler that outlived its deadline: its transaction is rolled back by then. */
  get tx(): unknown {
    this.#assertNotOver('the transaction of this handler')
    return this.#tx
  }

  /** Bound when it is read, so that it can be taken out of the context. */
  get publish(): CommonContext['publish'] {
    return (topic, payload, options) => this.#publish(topic, payload, options)
  }

  #publish<In>(
    topic: Topic<In, unknown>,
    payload: In,
    options?: ProduceOptions,
  ): Promise<{ readonly id: string }> {
    try {
      this.#assertNotOver('the context of this handler')
    } catch (error) {
      return Promise.reject(asError(error))
    }
    const execution = ExecutionContext.executionOf(this)
    try {
      execution.publication ??= this.#options.publications.open(this.#together)
      return Promise.resolve({ id: execution.publication.add(topic, payload, options) })
    } catch (thrown) {
      return execution.refuse(asError(thrown))
    }
  }

  #assertNotOver(what: string): void {
    if (this.#isOver || this.#execution?.timedOut === true) throw new ClosedError(what)
  }
}

/** The context of one message. */
export class MessageContext extends ExecutionContext implements HandlerContext {
  readonly message: Message

  constructor(message: Message, together: readonly Held[], tx: unknown, options: ContextOptions) {
    super(together, tx, options)
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
