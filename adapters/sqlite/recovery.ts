import type { BrokerState, Deadline } from '../../src/contract/broker.ts'
import type { Cancel, Clock } from '../../src/contract/clock.ts'
import type { WriterHealth } from './writer-health.ts'

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 10_000
/** How long one try waits for the lock. */
const TRY_MS = 5_000

/**
 * Tries to write while a file is not up. Nobody hands anything over to a broker that is down or
 * blocked, so without this the next transaction, which is what tells that the file works again, might
 * never come. Pauses from 1 s to 10 s between two tries, short again once the file stayed up for long.
 */
export class Recovery {
  readonly #health: WriterHealth
  readonly #clock: Clock
  readonly #tryWriting: (deadline: Deadline) => Promise<void>
  readonly #stopListening: () => void
  #pauseMs = FIRST_PAUSE_MS
  #upSince: number | null = null
  #cancel: Cancel | null = null
  #trying = false
  #stopped = false

  constructor(
    health: WriterHealth,
    clock: Clock,
    tryWriting: (deadline: Deadline) => Promise<void>,
  ) {
    this.#health = health
    this.#clock = clock
    this.#tryWriting = tryWriting
    this.#stopListening = health.onChange((state) => this.#changed(state))
  }

  stop(): void {
    this.#stopped = true
    this.#stopListening()
    this.#cancel?.()
    this.#cancel = null
  }

  #changed({ status }: BrokerState): void {
    const now = this.#clock.now()
    if (isWritable(status)) {
      this.#upSince = now
      this.#cancel?.()
      this.#cancel = null
      return
    }
    if (this.#upSince !== null && now - this.#upSince > LONGEST_PAUSE_MS) {
      this.#pauseMs = FIRST_PAUSE_MS
    }
    this.#upSince = null
    this.#plan()
  }

  #plan(): void {
    if (this.#stopped || this.#trying || this.#cancel !== null) return
    this.#cancel = this.#clock.after(this.#pauseMs, () => void this.#try())
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS)
  }

  async #try(): Promise<void> {
    this.#cancel = null
    this.#trying = true
    try {
      await this.#tryWriting(this.#clock.now() + TRY_MS)
    } catch {
      // Whatever was wrong is the state's reason already.
    }
    this.#trying = false
    if (!isWritable(this.#health.state.status)) this.#plan()
  }
}

/** What makes a file degraded is tried again by whoever it fails. */
function isWritable(status: BrokerState['status']): boolean {
  return status === 'up' || status === 'degraded'
}
