import type { Receiver } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import { HoldfastError } from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { Claims, Work } from './claim.ts'
import type { Held } from './held.ts'
import { ABORTED, DEFERRED, type Outcome } from './outcome.ts'

/** What the broker's own transaction needs. */
export interface AtomicOptions {
  readonly receiver: () => Receiver | null
  readonly timeoutMs: number
  readonly clock: Clock
}

/** Settles deliveries and stores what their handlers published in one transaction of the broker. */
export class AtomicClaims implements Claims {
  readonly #options: AtomicOptions

  constructor(options: AtomicOptions) {
    this.#options = options
  }

  /** A transaction takes deliveries without a hole, so it ends before the first that is not done. */
  async run(slice: readonly Held[], work: Work): Promise<void> {
    const done: Held[] = []
    for (const held of slice) {
      if (held.outcome === null) await work(undefined, [held])
      if (held.outcome?.kind !== 'done') break
      done.push(held)
    }
    for (const held of slice) held.outcome ??= DEFERRED
    const produced = done.flatMap(({ execution }) => execution?.publication?.envelopes ?? [])
    if (produced.length > 0) await this.#commit(done, produced)
  }

  async #commit(done: readonly Held[], produced: readonly Envelope[]): Promise<void> {
    const result = await this.#transact(done, produced)
    for (const held of done) {
      if (result === 'committed') held.committed = true
      else held.outcome = notCommitted(result)
    }
  }

  async #transact(
    done: readonly Held[],
    produced: readonly Envelope[],
  ): Promise<'committed' | 'aborted' | 'unknown'> {
    const { receiver, timeoutMs, clock } = this.#options
    const deliveries = done.map(({ delivery }) => delivery)
    try {
      const answer = receiver()?.transact?.(deliveries, produced, clock.now() + timeoutMs)
      return (await answer) ?? 'aborted'
    } catch {
      return 'unknown'
    }
  }
}

/** aborted: tried again. unknown: only the broker can say, so it gets them back. */
function notCommitted(result: 'aborted' | 'unknown'): Outcome {
  if (result === 'unknown') return ABORTED
  const text = 'the broker aborted the transaction that settles and publishes together'
  return { kind: 'unavailable', error: new HoldfastError('aborted', text) }
}
