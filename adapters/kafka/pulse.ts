import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import { Wake } from '../../src/policy/wake.ts'
import type { DriverAdmin } from './driver.ts'
import type { Health, TellHealth } from './health.ts'

/** What the pulse is felt by. */
export interface PulseOptions {
  readonly admin: Pick<DriverAdmin, 'ping'>
  readonly clock: Clock
  readonly health: TellHealth
}

/** How often the cluster is asked whether it is there: a broker may be back from a restart in three seconds. */
const EVERY_MS = 1_000
/** How often while it does not answer. */
const AGAIN_MS = 250
/** How long one answer may take. */
const ANSWER_MS = 5_000
/** One silent node is no cluster that is away: the next one is asked first, and has that long to answer. */
const NEXT_MS = 1_000

/** Asks the cluster from time to time whether it is there, also when nobody sends or receives. */
export class Pulse {
  readonly #options: PulseOptions
  readonly #wake: Wake
  #isStopped = false
  #failures = 0
  #reason: string | null = null
  #running: Promise<void> | null = null

  constructor(options: PulseOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Never rejects; idempotent. */
  async stop(deadline: Deadline): Promise<void> {
    this.#isStopped = true
    this.#wake.ring()
    const running = this.#running
    if (running === null) return
    const { clock } = this.#options
    const ending = withDeadline(clock, deadline, () => running, 'the end of the pulse')
    await ending.catch(() => undefined)
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      await this.#feel()
      if (this.#isStopped) return
      await this.#wake.sleep(this.#failures === 0 ? EVERY_MS : AGAIN_MS)
    }
  }

  async #feel(): Promise<void> {
    const { admin, clock } = this.#options
    const late = this.#failures === 0 ? null : clock.after(NEXT_MS, () => this.#tell('away'))
    try {
      await admin.ping(clock.now() + ANSWER_MS)
      this.#failures = 0
      this.#reason = null
      this.#tell('up')
    } catch (error) {
      this.#failures++
      this.#reason = error instanceof Error ? error.message : String(error)
      this.#tell(this.#failures === 1 ? 'weak' : 'away')
    } finally {
      late?.()
    }
  }

  #tell(health: Health): void {
    if (!this.#isStopped) this.#options.health(health, this.#reason)
  }
}
