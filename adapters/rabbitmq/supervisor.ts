import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock, Random } from '../../src/contract/clock.ts'
import { ClosedError, HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Wake } from '../../src/policy/wake.ts'
import type { Connecting } from './connector.ts'
import type { Wire } from './wire.ts'

/** What a supervisor keeps alive. */
export interface SupervisorOptions {
  readonly purpose: string
  readonly connector: Connecting
  readonly clock: Clock
  readonly random: Random
  /** Makes what has to be on a new wire. Every wait in it has its deadline; when it rejects, the wire is replaced. */
  readonly setup: (wire: Wire) => Promise<void>
  /** Called once for every wire that `setup` was called with, when it is over. */
  readonly lost: (error: HoldfastError) => void
  readonly health: (state: Health, reason: string | null) => void
}

/** How the wire of one purpose is. */
export type Health = 'connecting' | 'up' | 'blocked'

/**
 * Full jitter: after a broker's restart not all clients come back at once. What was refused stays so for
 * longer than what nobody answered.
 */
const backoff = exponential({ initialMs: 100, maxMs: 5_000 })
const refusedBackoff = exponential({ initialMs: 100, maxMs: 30_000 })

/** How one wire went: never opened, opened and not set up, or set up, whereupon waits are short again. */
interface Life {
  readonly came: 'nowhere' | 'open' | 'up'
  readonly error: HoldfastError
}

/** Keeps one thing alive on a wire: opens, sets up, waits until it ends, waits a little, and again. */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #wake: Wake
  #state: 'idle' | 'running' | 'stopped' = 'idle'
  #running: Promise<void> = Promise.resolve()
  /** Open, perhaps not set up yet. */
  #live: Wire | null = null
  #up: Wire | null = null
  #letGo: () => void = () => undefined
  readonly #stopping: AbortController = new AbortController()

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  /** The wire that is set up and open, if there is one. */
  get wire(): Wire | null {
    return this.#up
  }

  /** Begins, once. */
  start(): void {
    if (this.#state !== 'idle') return
    this.#state = 'running'
    this.#running = this.#run()
  }

  /** No new wire from now on; the present one is closed by the deadline. Never rejects. Idempotent. */
  async stop(deadline: Deadline): Promise<void> {
    this.#state = 'stopped'
    this.#stopping.abort()
    this.#wake.ring()
    await this.#live?.close(deadline)
    const { clock, purpose } = this.#options
    const ending = withDeadline(clock, deadline, () => this.#running, `the end of ${purpose}`)
    await ending.catch(() => undefined)
  }

  /** Drops the present wire and connects again without waiting; while there is none, tries again now. */
  replace(reason: HoldfastError): void {
    this.#wake.ring()
    this.#live?.destroy(reason)
  }

  /** Lets go of the present wire without ending it: whoever uses it does. Connects again without waiting. */
  leave(): void {
    this.#wake.ring()
    this.#letGo()
  }

  async #run(): Promise<void> {
    const { health } = this.#options
    let failures = 0
    let reason: string | null = null
    while (this.#isRunning()) {
      health('connecting', reason)
      const life = await this.#life()
      reason = life.error.message
      failures = life.came === 'up' ? 1 : failures + 1
      if (this.#isRunning()) await this.#rest(life, failures)
    }
  }

  /**
   * Until it is time to try again. Where nothing could be opened, another connection that opens ends
   * the wait: the broker is back. One that opens and fails after that says nothing of the kind, and
   * would otherwise let two of them ring for each other for ever.
   */
  async #rest({ came, error }: Life, failures: number): Promise<void> {
    const { connector, random } = this.#options
    const waits = error.code === 'unavailable' ? refusedBackoff : backoff
    const stopListening = came === 'nowhere' ? connector.onOpen(() => this.#wake.ring()) : null
    await this.#wake.sleep(waits.delayFor(failures, random))
    stopListening?.()
  }

  async #life(): Promise<Life> {
    const { connector, purpose } = this.#options
    try {
      const wire = await connector.open(purpose, this.#stopping.signal)
      if (!this.#isRunning()) wire.destroy(new ClosedError(purpose))
      return await this.#on(wire)
    } catch (error) {
      return { came: 'nowhere', error: named(error, purpose) }
    }
  }

  async #on(wire: Wire): Promise<Life> {
    const { purpose, setup } = this.#options
    if (!wire.isOpen) return { came: 'open', error: await over(wire) }
    this.#live = wire
    const ended = this.#ended(wire)
    try {
      await setup(wire)
      if (wire.isOpen) this.#isUp(wire)
    } catch (error) {
      wire.destroy(named(error, purpose))
    }
    const came = wire.isOpen ? 'up' : 'open'
    return { came, error: await ended }
  }

  /** Resolves when the wire has ended, and whoever is to know was told in the same turn, or was let go. */
  #ended(wire: Wire): Promise<HoldfastError> {
    return new Promise((resolve) => {
      const isOver = (error: HoldfastError): void => {
        stopListening()
        this.#live = this.#up = null
        resolve(error)
      }
      const stopListening = wire.onClose((error) => {
        isOver(error)
        this.#options.lost(error)
      })
      this.#letGo = () => isOver(new ClosedError(this.#options.purpose))
    })
  }

  #isUp(wire: Wire): void {
    this.#up = wire
    const tell = (reason: string | null): void => {
      if (this.#up === wire) this.#options.health(reason === null ? 'up' : 'blocked', reason)
    }
    wire.onBlocked(tell)
    tell(wire.blocked)
  }

  #isRunning(): boolean {
    return this.#state === 'running'
  }
}

function over(wire: Wire): Promise<HoldfastError> {
  return new Promise((resolve) => void wire.onClose(resolve))
}

function named(error: unknown, purpose: string): HoldfastError {
  if (isHoldfastError(error)) return error
  const text = error instanceof Error ? error.message : String(error)
  return new HoldfastError('connection-lost', `${purpose} could not be set up: ${text}`, {
    cause: error,
  })
}
