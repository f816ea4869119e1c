import { type Clock, type Random, sleep } from '../contract/clock.ts'
import type { CrashPoint, CrashPoints } from '../contract/crash-points.ts'
import { PublishRefusedError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import type { Envelope } from '../contract/message.ts'
import { exponential } from '../policy/backoff.ts'
import { bareLetter, type DeadVerdict, deadLetter, retryLetter } from './dead-letter.ts'
import { asError } from './failure.ts'
import type { Held } from './held.ts'
import type { Holdings } from './holdings.ts'
import type { Lanes } from './lanes.ts'
import type { Verdict } from './outcome.ts'
import type { Told } from './told.ts'

/** What settling needs. */
export interface SettleOptions {
  readonly group: string
  readonly told: Told
  readonly lanes: Lanes
  readonly holdings: Holdings
  /** The broker delays retries itself. */
  readonly native: boolean
  /** Resolves when the broker has confirmed it. */
  readonly send: (envelope: Envelope) => Promise<unknown>
  /** Keeps the inbox row of a dead letter, where there is an inbox. */
  readonly keep: ((held: Held) => Promise<void>) | null
  /** Told of each one that was finished here: done, dead-lettered or discarded. */
  readonly finished: (held: Held) => void
  /** Aborts when nothing is to be tried again. */
  readonly stopping: AbortSignal
  /** Called when nothing is being stored any more. */
  readonly onIdle: () => void
  readonly clock: Clock
  readonly random: Random
  readonly crash: CrashPoints
  readonly emit: Emit
}

/** How long a delivery waits when handling it failed in a way that should not be possible. */
const AFTER_A_MISTAKE_MS = 10_000

const betweenStores = exponential({ initialMs: 200, maxMs: 10_000 })

/** What is stored before a delivery is acknowledged. */
interface Copy {
  readonly envelope: Envelope
  /** What is done when the broker refuses it for good: another one is sent, or none. */
  readonly instead: () => Envelope | null
  readonly stored: CrashPoint
  /** Of a dead letter. */
  readonly verdict?: DeadVerdict
}

/** Turns verdicts into broker calls in the one safe order: stored elsewhere and confirmed, then acknowledged. */
export class Settler {
  readonly #options: SettleOptions
  readonly #told: Told
  #storing = 0

  constructor(options: SettleOptions) {
    this.#options = options
    this.#told = options.told
  }

  /** Retries and dead letters on their way. */
  get storing(): number {
    return this.#storing
  }

  /** Carries the verdict out. One that was settled or dropped before is left alone. */
  settle(held: Held, verdict: Verdict): void {
    if (held.place === 'gone') return
    switch (verdict.kind) {
      case 'ack':
        this.#told.ended(held)
        return this.#ack(held)
      case 'wait':
        return this.#wait(held, verdict.ms, verdict.made)
      case 'retry':
        return this.#retry(held, verdict.ms, verdict.made)
      case 'release':
        return this.#options.holdings.giveBack(held)
      case 'dead':
        return this.#bury(held, verdict)
      case 'discard':
        this.#told.discarded(held, verdict.reason, verdict.made)
        return this.#ack(held)
    }
  }

  /** Nothing is known about it: it is tried again after a while. Does not throw. */
  keepHeld(held: Held): void {
    this.#options.lanes.wait(held, AFTER_A_MISTAKE_MS)
  }

  #ack(held: Held): void {
    const { crash } = this.#options
    crash.at('after_commit_before_ack')
    if (!held.committed) held.delivery.ack()
    crash.at('after_ack')
    this.#options.finished(held)
    this.#options.holdings.remove(held)
  }

  #wait(held: Held, ms: number, made: number): void {
    const counts = made > held.made
    if (counts) this.#told.retried(held, ms, 'lane')
    // A handler that outlived its deadline keeps it until it ends.
    const isFree = held.execution === null || held.execution.ended
    if (held.assignment.leaving && isFree) return this.#options.holdings.giveBack(held)
    held.uncounted = counts || ms === 0 ? 0 : held.uncounted + 1
    held.made = made
    this.#options.lanes.wait(held, ms)
  }

  #retry(held: Held, ms: number, made: number): void {
    const counts = made > held.made
    const isDone = counts && this.#retriesNatively(held, ms)
    const [shortestMs] = held.topic.retryLevelsMs
    const travels = shortestMs !== undefined && (!counts || ms >= shortestMs)
    if (!isDone && !travels) return this.#wait(held, ms, made)
    if (counts) this.#told.retried(held, ms, 'broker')
    if (isDone) return this.#options.holdings.remove(held)
    this.#options.crash.at('before_retry_publish')
    const envelope = retryLetter(held, this.#options.group, ms, made)
    const instead = (): null => this.#waitHere(held, ms, made)
    void this.#store(held, { envelope, instead, stored: 'after_retry_publish_before_ack' })
  }

  /** The broker counts what it delays as a try; it says no where it would be early. */
  #retriesNatively({ delivery }: Held, ms: number): boolean {
    return this.#options.native && delivery.retry?.(Math.ceil(ms)) === true
  }

  #bury(held: Held, verdict: DeadVerdict): void {
    const { group, clock } = this.#options
    const envelope = deadLetter(held, group, verdict, clock)
    const instead = (): Envelope => bareLetter(envelope)
    void this.#store(held, { envelope, instead, stored: 'after_dlq_publish_before_ack', verdict })
  }

  /** The broker does not take its copy, and never will: it waits for its next try where it is. */
  #waitHere(held: Held, ms: number, made: number): null {
    held.made = made
    this.#options.lanes.wait(held, ms)
    return null
  }

  /** Stores a copy, again and again until it is confirmed, and only then acknowledges. Never rejects. */
  async #store(held: Held, copy: Copy): Promise<void> {
    const { stored, verdict } = copy
    this.#storing++
    this.#options.lanes.store(held)
    try {
      if (!(await this.#copied(held, copy))) return
      this.#options.crash.at(stored)
      if (verdict !== undefined && !(await this.#isKept(held, verdict))) return
      // Its source may have been taken away meanwhile: then it comes again, elsewhere.
      if (held.place === 'storing') this.#ack(held)
    } catch (thrown) {
      const message = `settling failed: ${asError(thrown).message}`
      this.#options.emit({ type: 'warning', code: 'internal', message })
    } finally {
      if (--this.#storing === 0) this.#options.onIdle()
    }
  }

  /** One that is refused for good is not sent again as it is. */
  #copied(held: Held, { envelope, instead }: Copy): Promise<boolean> {
    let sent: Envelope | null = envelope
    const send = async (): Promise<void> => {
      try {
        await this.#options.send(sent as Envelope)
      } catch (thrown) {
        if (sent === envelope && isForGood(thrown)) sent = instead()
        throw thrown
      }
    }
    return this.#succeeds(held, send, () => sent === null)
  }

  /** The inbox remembers what was given up, so that a late copy of it is not handled. */
  #isKept(held: Held, verdict: DeadVerdict): Promise<boolean> {
    const { keep } = this.#options
    this.#told.dead(held, verdict)
    return keep === null ? Promise.resolve(true) : this.#succeeds(held, () => keep(held))
  }

  /** Tries again and again; false when the delivery is not ours to settle any more. */
  async #succeeds(
    held: Held,
    work: () => Promise<unknown>,
    isGivenUp: () => boolean = () => false,
  ): Promise<boolean> {
    const { clock, random, stopping, emit } = this.#options
    // Who was given up may be stored anew meanwhile, by somebody else than us.
    for (let tries = 1; held.place === 'storing' && !isGivenUp(); tries++) {
      if (tries > 1 && stopping.aborted) return false
      try {
        await work()
        return true
      } catch (thrown) {
        emit({ type: 'settle.failed', count: 1, error: asError(thrown) })
      }
      if (held.assignment.leaving) this.#options.holdings.giveBack(held)
      else
        await sleep(clock, betweenStores.delayFor(tries, random), stopping).catch(() => undefined)
    }
    return false
  }
}

/** For what it is, however often it is sent. Permissions and destinations that are missing may come. */
function isForGood(thrown: unknown): boolean {
  return thrown instanceof PublishRefusedError && !thrown.retryable && thrown.code === 'too-large'
}
