import type { Clock } from '../contract/clock.ts'
import { HoldfastError } from '../contract/errors.ts'
import { type DeadlineWatch, Watched } from '../policy/deadline-watch.ts'
import type { Held } from './held.ts'
import type { Publication } from './publications.ts'
import { Refusal } from './refusal.ts'

/** What all executions of a consumer share. */
export interface ExecutionOptions {
  readonly clock: Clock
  readonly timeoutMs: number
  /** The deadlines of all of them, on one timer. */
  readonly watch: DeadlineWatch
  /** Told of one that ignores its signal, every timeout after its deadline, until it ends. */
  readonly onStuck: (execution: Execution) => void
}

/**
 * One run of a handler. Its signal is made when the handler reads it; that it has really ended is
 * known apart from its outcome, since a handler may go on after its deadline.
 */
export class Execution extends Watched {
  readonly startedMs: number
  readonly together: readonly Held[]
  readonly #options: ExecutionOptions
  #controller: AbortController | null = null
  #reason: Error | null = null
  #ended = false
  #onEnd: (() => void) | null = null
  #onTimeout: ((error: HoldfastError) => void) | null = null
  #refusals: { readonly refusal: Refusal; readonly error: Error }[] | null = null

  timedOut = false
  /** Its transaction must not be committed, whatever the outcomes of its messages. */
  rollBack = false
  /** What the handler published so far. */
  publication: Publication | null = null
  /** What the handler returned. */
  result: unknown = undefined

  /** `together`: the deliveries it handles. */
  constructor(together: readonly Held[], options: ExecutionOptions) {
    const now = options.clock.now()
    super(now + options.timeoutMs)
    this.startedMs = now
    this.together = together
    this.#options = options
  }

  get ended(): boolean {
    return this.#ended
  }

  /** The handler was told to give up. */
  get aborted(): boolean {
    return this.#reason !== null
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.#reason !== null) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  /** Milliseconds until the deadline, 0 when it has passed. */
  get leftMs(): number {
    const { clock, timeoutMs } = this.#options
    return Math.max(0, this.startedMs + timeoutMs - clock.now())
  }

  /** A publication of this handler was refused; returns what the handler gets for it. */
  refuse(error: Error): Refusal {
    const refusal = Refusal.of(error)
    this.#refusals ??= []
    this.#refusals.push({ refusal, error })
    return refusal
  }

  /** Why a publication was refused that the handler never asked about; null when there is none. */
  get unseenRefusal(): Error | null {
    return this.#refusals?.find(({ refusal }) => !refusal.taken)?.error ?? null
  }

  /** Tells the handler to give up; the first reason counts. */
  abort(reason: Error): void {
    if (this.#ended || this.#reason !== null) return
    this.#reason = reason
    this.#controller?.abort(reason)
  }

  /** Sets its deadline going; a synchronous handler needs none. */
  begin(onTimeout: (error: HoldfastError) => void): void {
    this.#onTimeout = onTimeout
    this.#options.watch.add(this)
  }

  override onDue(): void {
    const { clock, timeoutMs, watch, onStuck } = this.#options
    if (this.timedOut) onStuck(this)
    else this.#timeOut(timeoutMs)
    this.dueAt = clock.now() + timeoutMs
    watch.add(this)
  }

  /** The handler has really ended. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.watch.remove(this)
    this.#onEnd?.()
  }

  /** Calls back when it has really ended; at once when it has. */
  whenEnded(task: () => void): void {
    if (this.#ended) return task()
    const before = this.#onEnd
    this.#onEnd = () => {
      before?.()
      task()
    }
  }

  #timeOut(timeoutMs: number): void {
    const error = new HoldfastError(
      'handler-timeout',
      `the handler did not end within ${timeoutMs} ms: end it when context.signal aborts, or raise handlerTimeoutMs`,
    )
    this.timedOut = true
    // It may still write: what it shares a transaction with cannot be told apart from it.
    this.rollBack = true
    this.abort(error)
    this.#onTimeout?.(error)
  }
}
