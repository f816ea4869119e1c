import type { Clock } from '../contract/clock.ts'
import { HoldfastError, isHoldfastError } from '../contract/errors.ts'
import type { ClaimResult, Identified, InboxStore, WorkResult } from '../contract/store.ts'
import { withDeadline } from '../policy/deadline.ts'
import { asError, failureOf } from './failure.ts'
import type { Held } from './held.ts'
import { BUSY, DEFERRED, DUPLICATE, type Outcome } from './outcome.ts'
import type { Eventually } from './value-or-promise.ts'

/** Handles deliveries that nobody handled before; writes their outcomes, never throws. */
export type Work = (tx: unknown, fresh: readonly Held[]) => Eventually<void>

/** What stands around the handler: the inbox's transaction, the broker's, or nothing. */
export interface Claims {
  /** Gives each delivery of the slice an outcome; never rejects. A 'done' is committed when it returns. */
  run(slice: readonly Held[], work: Work): Eventually<void>
}

/** Without an inbox there is just the work. */
export class NoClaims implements Claims {
  run(slice: readonly Held[], work: Work): Eventually<void> {
    if (slice.length === 1) return isOpen(slice[0] as Held) ? work(undefined, slice) : undefined
    const runnable = new Set<Held>()
    for (const held of slice) {
      if (!isOpen(held)) continue
      if (isBehind(held, runnable)) held.outcome = DEFERRED
      else runnable.add(held)
    }
    return runnable.size === 0 ? undefined : work(undefined, [...runnable])
  }
}

/** What claiming in an inbox needs. */
export interface InboxClaimOptions {
  readonly inbox: InboxStore<unknown>
  readonly mode: 'each' | 'batch'
  /** How long a transaction may take messages in; the one that is running then is the last. */
  readonly transactionMs: number
  /** How long the inbox may take beside the handlers; then nobody knows what it did. */
  readonly answerMs: number
  /** How long one handler may take. */
  readonly handlerTimeoutMs: number
  readonly clock: Clock
}

/** Thrown inside the transaction to roll all of it back; the outcomes say why. */
const rollBack = new HoldfastError('aborted', 'this transaction is rolled back on purpose')

/** One transaction of the inbox for a slice: rows first, then the work, returned after the commit. */
export class InboxClaims implements Claims {
  readonly #options: InboxClaimOptions

  constructor(options: InboxClaimOptions) {
    this.#options = options
  }

  async run(slice: readonly Held[], work: Work): Promise<void> {
    const claimed = slice.filter(isOpen)
    if (claimed.length === 0) return
    const transaction = new Transaction(claimed, work, this.#options)
    try {
      const results = await this.#answer(claimed, transaction)
      for (const [at, held] of claimed.entries()) record(held, results[at])
    } catch (thrown) {
      rolledBack(claimed, asError(thrown))
    }
  }

  /** The inbox's own word, or after its time that of nobody: it may be committed or not. */
  async #answer(
    claimed: readonly Held[],
    transaction: Transaction,
  ): Promise<readonly ClaimResult[]> {
    const { inbox, mode, answerMs, handlerTimeoutMs, clock } = this.#options
    const messages = claimed.map(identified)
    const deadline = clock.now() + answerMs + handlerTimeoutMs * claimed.length
    const run = (): Promise<readonly ClaimResult[]> =>
      inbox.run(messages, mode, (tx, fresh) => transaction.handle(tx, fresh))
    try {
      return await withDeadline(clock, deadline, run, `the inbox of "${messages[0]?.consumer}"`)
    } catch (thrown) {
      transaction.end()
      if (clock.now() < deadline) throw thrown
      throw new HoldfastError('commit-unknown', asError(thrown).message, { cause: thrown })
    }
  }
}

/** One transaction's part of the handling. */
class Transaction {
  readonly #claimed: readonly Held[]
  readonly #work: Work
  readonly #options: InboxClaimOptions
  readonly #untilMs: number
  #begun = false
  #ended = false

  constructor(claimed: readonly Held[], work: Work, options: InboxClaimOptions) {
    this.#claimed = claimed
    this.#work = work
    this.#options = options
    this.#untilMs = options.clock.now() + options.transactionMs
  }

  /** Nothing may begin in it any more. */
  end(): void {
    this.#ended = true
  }

  async handle(tx: unknown, fresh: readonly number[]): Promise<WorkResult[]> {
    if (this.#ended) throw rollBack
    const given = fresh.map((at) => this.#claimed[at] as Held)
    const runnable = new Set<Held>()
    for (const held of given) {
      if (this.#mayRun(held, runnable)) runnable.add(held)
      else held.outcome = DEFERRED
    }
    if (runnable.size > 0) {
      this.#begun = true
      await this.#work(tx, [...runnable])
    }
    if (this.#ended) throw rollBack
    for (const { execution } of runnable) if (execution?.rollBack === true) throw rollBack
    return given.map(({ outcome }) => (outcome?.kind === 'done' ? 'done' : 'failed'))
  }

  /** Not when it is too late, not when its source is going, not behind one that is not through. */
  #mayRun(held: Held, runnable: ReadonlySet<Held>): boolean {
    const { leaving, lost } = held.assignment
    if (leaving || lost || isBehind(held, runnable)) return false
    return !this.#begun || this.#options.clock.now() < this.#untilMs
  }
}

/** No step has given it an outcome yet. */
function isOpen(held: Held): boolean {
  return held.outcome === null
}

/**
 * Behind one of its key in the same slice that is not through: it failed, was put off, or the inbox
 * keeps it, whose reason (duplicate or busy) is known only later. Slices hold a lane's first
 * deliveries without gaps, so looking at the one before is enough.
 */
function isBehind({ previous }: Held, runnable: ReadonlySet<Held>): boolean {
  if (previous === null || runnable.has(previous)) return false
  return previous.outcome?.kind !== 'done' && previous.outcome?.kind !== 'poison'
}

function identified({ topic, identity, delivery }: Held): Identified {
  return { consumer: topic.consumer, id: identity as string, delivery }
}

/** What the store says about a transaction that was committed. */
function record(held: Held, result: ClaimResult | undefined): void {
  if (result === 'duplicate') held.outcome = DUPLICATE
  else if (result === 'busy') held.outcome = BUSY
  else if (result === undefined || held.outcome === null) held.outcome = inconsistent(held)
  else if (result === 'failed' && held.outcome.kind === 'done') held.outcome = inconsistent(held)
}

function inconsistent({ topic }: Held): Outcome {
  const text = `the inbox of "${topic.consumer}" did not say what became of a message`
  return { kind: 'unavailable', error: new HoldfastError('storage', text) }
}

/** Nothing of the transaction stayed, or nobody knows. */
function rolledBack(claimed: readonly Held[], error: Error): void {
  const code = isHoldfastError(error) ? error.code : null
  const outcome: Outcome =
    code === 'commit-unknown'
      ? { kind: 'failed', error }
      : code === 'busy'
        ? BUSY
        : failureOf(error)
  const isShared = error === rollBack || (outcome.kind === 'failed' && code !== 'commit-unknown')
  for (const held of claimed) {
    if (outcome.kind === 'unavailable' || outcome.kind === 'busy') held.outcome = outcome
    else if (isSettledByItself(held)) continue
    else if (isShared && (error === rollBack || claimed.length > 1)) again(held)
    else held.outcome = outcome
  }
}

/** It has its own reason not to be done, which the end of the transaction does not change. */
function isSettledByItself({ outcome }: Held): boolean {
  return outcome !== null && outcome.kind !== 'done'
}

/** Whose fault the rollback was is found out by handling each in its own transaction. */
function again(held: Held): void {
  held.outcome = DEFERRED
  held.alone = true
}
