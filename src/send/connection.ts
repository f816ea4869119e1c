import type { BrokerState, Sender } from '../contract/broker.ts'
import type { Capabilities } from '../contract/capabilities.ts'
import type { Cancel, Clock } from '../contract/clock.ts'
import type { Emit } from '../contract/events.ts'
import { circuitBreaker, type Breaker, type BreakerOptions } from '../policy/circuit-breaker.ts'
import { tellStates } from './breaker-events.ts'
import type { Session } from './session.ts'

/** How long opening may take before the breaker says that the way is shut. */
const OPENING_MS = 1_000

/** What a connection needs. */
export interface ConnectionOptions {
  readonly session: Session
  readonly purpose: 'publish' | 'relay' | 'settle'
  readonly breaker: BreakerOptions | undefined
  readonly clock: Clock
  readonly emit: Emit
  /** Told whenever something may have become possible again. */
  readonly changed: () => void
  /** Told that the broker cannot be opened, and that waiting does not help. */
  readonly failed: (error: unknown) => void
}

/** The way to the broker as a whole: opened on first use, shut while it is down, blocked or tripped. */
export class Connection {
  readonly breaker: Breaker
  readonly #options: ConnectionOptions
  readonly #stop: (() => void)[]
  #capabilities: Capabilities | null = null
  #sender: Sender | null = null
  #opening = false
  #status: BrokerState['status'] = 'down'
  #cancelPatience: Cancel | null = null
  #closed = false

  constructor(options: ConnectionOptions) {
    const { session, purpose, breaker, clock, emit } = options
    this.#options = options
    this.breaker = circuitBreaker(breaker, clock)
    this.#stop = [
      tellStates(this.breaker, purpose, emit),
      this.breaker.onChange(() => options.changed()),
      session.onState(({ status }) => this.#onStatus(status)),
    ]
  }

  /** What the broker can keep; null until it is open. */
  get capabilities(): Capabilities | null {
    return this.#capabilities
  }

  get sender(): Sender | null {
    return this.#sender
  }

  /** The broker is open and takes messages, whatever the breaker says. */
  get works(): boolean {
    return this.#sender !== null && (this.#status === 'up' || this.#status === 'degraded')
  }

  /** Everything may go. */
  get isOpen(): boolean {
    return this.works && this.breaker.state === 'closed'
  }

  /** Known to be shut, as opposed to not opened yet. */
  get isShut(): boolean {
    return this.breaker.state === 'open' || (this.#sender !== null && !this.works)
  }

  /** Opens the broker in the background. Idempotent. */
  start(): void {
    if (this.#opening || this.#sender !== null || this.#closed) return
    this.#opening = true
    this.#cancelPatience = this.#options.clock.after(OPENING_MS, () => this.breaker.trip())
    this.#options.session.ready().then(
      (capabilities) => this.#opened(capabilities),
      (error: unknown) => this.#failed(error),
    )
  }

  /** Stops listening and its timers; the sender is the owner's to close. */
  close(): void {
    this.#closed = true
    this.#cancelPatience?.()
    for (const stop of this.#stop) stop()
    this.breaker.close()
  }

  #opened(capabilities: Capabilities): void {
    this.#opening = false
    this.#cancelPatience?.()
    if (this.#closed) return
    const { session, purpose, changed } = this.#options
    this.#capabilities = capabilities
    this.#sender = session.broker.sender(purpose)
    this.breaker.reset()
    changed()
  }

  #failed(error: unknown): void {
    this.#opening = false
    this.#cancelPatience?.()
    if (!this.#closed) this.#options.failed(error)
  }

  /** The broker's own word beats any statistics: down opens the breaker, up closes it. */
  #onStatus(status: BrokerState['status']): void {
    const before = this.#status
    this.#status = status
    if (status === before || this.#sender === null) return
    if (status === 'down') this.breaker.trip()
    else if (before === 'down') this.breaker.reset()
    this.#options.changed()
  }
}
