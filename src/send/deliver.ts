import type { Deadline, Sender, SendOutcome, StoredAt } from '../contract/broker.ts'
import type { Clock, Random } from '../contract/clock.ts'
import { ClosedError, PublishRefusedError, OutcomeUnknownError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import type { Envelope } from '../contract/message.ts'
import type { Session } from './session.ts'

/** What a result is made from. */
export interface Sent {
  readonly at: StoredAt | null
  /** How often the envelope was handed to the broker. */
  readonly attempts: number
  /** An earlier attempt ended unknown, so the message may be stored more than once, with one id. */
  readonly possiblyDuplicated: boolean
}

/** What a dispatcher needs. */
export interface DispatcherOptions<T> {
  readonly session: Session
  readonly purpose: 'publish' | 'relay' | 'settle'
  /** Makes what `send` resolves with. */
  readonly result: (envelope: Envelope, sent: Sent) => T
  /** Deadline of envelopes that bring none, in milliseconds. Default 30 000. */
  readonly deadlineMs?: number
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
}

/** Limits of one envelope. */
export interface SendOptions {
  readonly deadline?: Deadline
  readonly signal?: AbortSignal
}

/**
 * Delivers envelopes to the broker and tells the outcome of each: resolves when it is confirmed,
 * rejects with a `PublishRefusedError` when it is definitely not stored, with an
 * `OutcomeUnknownError` when it may be; always by its deadline.
 */
export class Dispatcher<T> {
  readonly #options: DispatcherOptions<T>
  readonly #open = new Set<Promise<T>>()
  #sender: Sender | null = null
  #closed = false

  constructor(options: DispatcherOptions<T>) {
    this.#options = options
  }

  /** Envelopes whose outcome is not known yet. */
  get outstanding(): number {
    return this.#open.size
  }

  send(envelope: Envelope, options: SendOptions = {}): Promise<T> {
    if (this.#closed) return Promise.reject(new ClosedError('dispatcher'))
    const sent = this.#send(envelope, options)
    this.#open.add(sent)
    const end = (): void => void this.#open.delete(sent)
    sent.then(end, end)
    return sent
  }

  /** Resolves when everything handed in before has an outcome; rejects with code `timeout` when that takes too long. */
  async flush(_deadline: Deadline): Promise<void> {
    await Promise.allSettled(this.#open)
  }

  /** What was not written is refused, what was is waited for and then unknown. Idempotent. */
  async close(deadline: Deadline): Promise<void> {
    this.#closed = true
    await this.#sender?.close(deadline)
  }

  async #send(envelope: Envelope, { deadline }: SendOptions): Promise<T> {
    const { session, purpose, clock, result, deadlineMs = 30_000 } = this.#options
    const until = deadline ?? clock.now() + deadlineMs
    await session.ready()
    this.#sender ??= session.broker.sender(purpose)
    const outcome = await new Promise<SendOutcome>((resolve) => {
      this.#sender?.send([envelope], until, (_from, _to, reported) => resolve(reported))
    })
    if (outcome.status !== 'confirmed') throw outcome.error
    return result(envelope, { at: outcome.at ?? null, attempts: 1, possiblyDuplicated: false })
  }
}

/** The two ways a send can fail. */
export type SendError = PublishRefusedError | OutcomeUnknownError
