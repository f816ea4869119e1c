import type { StoredAt } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import { OutcomeUnknownError, type HoldfastError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { DeadlineWatch } from '../policy/deadline-watch.ts'
import { DelayQueue } from '../policy/delay-queue.ts'
import { Accumulator, type Bounds } from './batch.ts'
import { FlushToken } from './flush-token.ts'
import { KeyRun } from './gate.ts'
import { aborted, behindGivenUp, outOfTime } from './outcome.ts'
import type { Expirer, Pending } from './pending.ts'

/** What the flight of envelopes needs. */
export interface InFlightOptions {
  readonly clock: Clock
  readonly emit: Emit
  readonly bounds: Bounds
  /** What becomes of a key's followers when its head is given up. */
  readonly followers: 'continue' | 'refuse'
  readonly flush: (ready: readonly Pending[]) => void
}

/** How long a key waits beyond the deadline for the broker's word about what was handed over. */
const LINGER_MS = 1_000

/** Every envelope between being taken and its end: keeps bounds, deadlines and the order of keys. */
export class InFlight implements Expirer {
  readonly accumulator: Accumulator
  readonly #emit: Emit
  readonly #refusesFollowers: boolean
  readonly #watch: DeadlineWatch
  readonly #delays: DelayQueue<KeyRun | Pending>
  readonly #tokens = new Set<FlushToken>()
  readonly #clock: Clock
  /** Told already, and kept only for their key's sake. */
  #ghosts = 0

  constructor({ clock, emit, bounds, followers, flush }: InFlightOptions) {
    this.#clock = clock
    this.#emit = emit
    this.#refusesFollowers = followers === 'refuse'
    this.#watch = new DeadlineWatch(clock)
    this.#delays = new DelayQueue(clock, (item) => this.#delayEnded(item))
    this.accumulator = new Accumulator(bounds, clock, {
      admitted: (pending) => this.#admitted(pending),
      flush,
    })
  }

  /** Envelopes whose outcome is not known yet. */
  get size(): number {
    return this.#watch.size + this.accumulator.waiting - this.#ghosts
  }

  /** All of them, those that wait for room last. */
  all(): Pending[] {
    return [...(this.#watch.items() as Pending[]), ...this.accumulator.waiters()]
  }

  /** Takes one in, until it ends; ends it at once when there is no room. */
  take(pending: Pending, signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) return pending.failed(aborted(pending, signal.reason))
    const full = this.accumulator.take(pending)
    if (full !== null) return pending.failed(full)
    if (signal !== undefined) this.#listen(pending, signal)
  }

  /** The broker's word: it is stored; `again`: perhaps twice, within one attempt. */
  confirm(pending: Pending, at: StoredAt | null, again: boolean): void {
    const { run, attempts, unknown, handOver } = pending
    const via = handOver?.via ?? 'broker'
    this.#leave(pending)
    if (!pending.told) {
      this.#markTold(pending)
      pending.confirmed({ at, attempts, possiblyDuplicated: again || unknown !== null, via })
    }
    if (run !== null) this.#answered(run)
  }

  /** It ends without being confirmed; the key goes on, or its followers end too. */
  end(pending: Pending, error: HoldfastError): void {
    const { run, stage } = pending
    this.#leave(pending)
    this.#tell(pending, error)
    if (run === null) return
    if (this.#refusesFollowers) this.#refuseFollowers(run, stage === 'sent')
    if (stage === 'sent') this.#answered(run)
    else if (stage === 'ready') this.#next(run)
    else if (stage === 'delayed') run.again = run.again.filter((one) => one !== pending)
  }

  /** It is tried again after its delay, in its key's order. */
  retry(pending: Pending): void {
    const { run } = pending
    pending.stage = 'delayed'
    if (run === null) {
      this.#delays.add(pending.delayMs, pending)
      return
    }
    run.again.push(pending)
    this.#answered(run)
  }

  expire(pending: Pending): void {
    // One that was due in the same instant may have ended it.
    if (pending.stage === 'ended') return
    if (pending.stage === 'waiting') {
      this.accumulator.leave(pending)
      pending.stage = 'ended'
      this.#tell(pending, this.accumulator.waitedInVain(pending))
    } else if (pending.stage === 'sent' && pending.run !== null && !pending.told) {
      this.#linger(pending)
    } else this.end(pending, outOfTime(pending))
  }

  /** Resolves when everything that is inside now has ended. */
  async flushed(): Promise<void> {
    const token = new FlushToken()
    for (const pending of this.all()) {
      if (pending.token !== null || pending.told) continue
      pending.token = token
      token.add()
    }
    if (token.left > 0) {
      this.#tokens.add(token)
      void token.done.then(() => this.#tokens.delete(token))
    }
    await Promise.all(Array.from(this.#tokens, ({ done }) => done))
  }

  /** Stops all timers; call it when nothing is inside any more. */
  close(): void {
    this.#watch.close()
    this.#delays.clear()
    this.accumulator.close()
  }

  #admitted(pending: Pending): void {
    const key = pending.envelope.orderKey
    pending.dueAt = pending.deadline
    this.#watch.add(pending)
    if (key === null || pending.route.gate.enter(pending, key)) this.accumulator.ready(pending)
  }

  /**
   * Whoever asked is told in time. The key still waits a moment for the broker's word, which was due
   * before, so that nothing of the key is handed over while this one may yet be stored.
   */
  #linger(pending: Pending): void {
    this.#tell(pending, outOfTime(pending))
    pending.dueAt = this.#clock.now() + LINGER_MS
    this.#watch.add(pending)
  }

  /** Out of every set and count. */
  #leave(pending: Pending): void {
    const { stage } = pending
    pending.stage = 'ended'
    pending.handOver = null
    if (stage === 'waiting') this.accumulator.leave(pending)
    else {
      this.#watch.remove(pending)
      if (pending.shelf !== null) pending.unshelve()
      this.accumulator.free(pending)
    }
    if (pending.told) this.#ghosts--
  }

  #markTold(pending: Pending): void {
    pending.told = true
    if (pending.token !== null) pending.token.remove()
    if (pending.stopListening !== null) pending.stopListening()
  }

  #tell(pending: Pending, error: HoldfastError): void {
    if (pending.told) return
    this.#markTold(pending)
    if (pending.stage !== 'ended') this.#ghosts++
    pending.failed(error)
    const type = error instanceof OutcomeUnknownError ? 'publish.unknown' : 'publish.refused'
    if (!this.#emit.wants(type)) return
    this.#emit({ type, topic: pending.route.name, id: pending.envelope.id, error })
  }

  /** One more of what was handed over of the key is answered; after the last the key goes on. */
  #answered(run: KeyRun): void {
    if (--run.unresolved > 0) return
    if (run.refusing) {
      this.#refuseFollowers(run, false)
      run.refusing = false
    }
    // Reports come in any order: what is tried again goes in the order of the key.
    run.again.sort((one, other) => one.seq - other.seq)
    const delayMs = run.again.reduce((most, one) => Math.max(most, one.delayMs), 0)
    if (delayMs > 0) this.#delays.add(delayMs, run)
    else this.#next(run)
  }

  #next(run: KeyRun): void {
    const next = run.gate.next(run)
    if (next !== null) this.accumulator.ready(next)
  }

  #delayEnded(item: KeyRun | Pending): void {
    if (item instanceof KeyRun) this.#next(item)
    else if (item.stage === 'delayed') this.accumulator.ready(item)
  }

  /** None of a key may be stored before the one that was given up is: whoever handed them in starts over. */
  #refuseFollowers(run: KeyRun, othersUnresolved: boolean): void {
    run.refusing = othersUnresolved
    const refused = [...run.again, ...run.behind]
    run.again = []
    for (const pending of refused) {
      this.#leave(pending)
      this.#tell(pending, behindGivenUp(pending))
    }
  }

  #listen(pending: Pending, signal: AbortSignal): void {
    const abort = (): void => this.#abort(pending, signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    pending.stopListening = () => signal.removeEventListener('abort', abort)
  }

  /** What is handed over stays until it is answered: its key must not go on before. */
  #abort(pending: Pending, reason: unknown): void {
    const error = aborted(pending, reason)
    if (pending.stage === 'sent') this.#tell(pending, error)
    else this.end(pending, error)
  }
}
