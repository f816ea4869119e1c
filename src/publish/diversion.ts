import type { Deadline, Report, Sender, SendOutcome } from '../contract/broker.ts'
import { CONFIRMED } from '../contract/broker.ts'
import type { Cancel, Clock } from '../contract/clock.ts'
import {
  isHoldfastError,
  OutcomeUnknownError,
  PublishRefusedError,
  StorageError,
} from '../contract/errors.ts'
import type { Envelope } from '../contract/message.ts'
import type { OutboxStats, OutboxStore } from '../contract/store.ts'
import { withDeadline } from '../policy/deadline.ts'
import type { Diversion, Via } from '../send/deliver.ts'
import { outboxRow } from '../send/outbox.ts'
import type { SealedEnvelope } from '../send/seal.ts'

/** How often the outbox is asked whether the diverted rows are gone. */
const POLL_MS = 100
/** How long a topic's messages are held for that before they are diverted again. */
const DRAIN_MS = 5_000
/** How long they are diverted then before the next try. */
const PAUSE_MS = 10_000
/** Rounding of ages on the database's side. */
const AGE_MARGIN_MS = 50

/** What diverting needs. */
export interface DiversionOptions {
  readonly store: Pick<OutboxStore<never>, 'appendAlone' | 'stats'>
  /** Resolves when the store is open. */
  readonly opened: () => Promise<void>
  readonly clock: Clock
  /** What was held may go now, one way or the other. */
  readonly changed: () => void
}

/**
 * Sends a topic's messages through the outbox while the way to the broker is shut, and goes on doing
 * so until the relay has brought them there: else later ones would overtake. To find that moment the
 * topic's messages are held for an instant; whether the rows are gone is read from the age of the
 * oldest row there is.
 */
export class OutboxDiversion implements Diversion {
  readonly sender: Sender
  readonly #options: DiversionOptions
  readonly #topics = new Set<string>()
  #phase: 'off' | 'diverting' | 'draining' = 'off'
  #appending = 0
  #lastAppendMs = 0
  #drainUntil = 0
  #drainFrom = 0
  #cancel: Cancel | null = null
  #closed = false

  constructor(options: DiversionOptions) {
    this.#options = options
    this.sender = { send: this.#send.bind(this), close: () => Promise.resolve() }
  }

  wayOf(topic: string, shut: boolean): Via | null {
    if (shut) {
      this.#topics.add(topic)
      if (this.#phase !== 'diverting') this.#divert(0)
      return 'outbox'
    }
    if (!this.#topics.has(topic)) return 'broker'
    if (this.#phase === 'diverting' && this.#options.clock.now() < this.#drainFrom) return 'outbox'
    if (this.#phase === 'diverting') this.#drain()
    return null
  }

  close(): void {
    this.#closed = true
    this.#cancel?.()
  }

  #send(batch: readonly Envelope[], deadline: Deadline, report: Report): void {
    const { store, opened, clock } = this.#options
    const rows = batch.map((envelope) => outboxRow(envelope as SealedEnvelope))
    const append = async (): Promise<void> => {
      await opened()
      await store.appendAlone(rows)
    }
    this.#appending++
    const end = (outcome: SendOutcome): void => {
      this.#appending--
      this.#lastAppendMs = clock.now()
      report(0, batch.length, outcome)
    }
    withDeadline(clock, deadline, append, 'appending to the outbox').then(
      () => end(CONFIRMED),
      (error: unknown) => end(outcomeOf(error)),
    )
  }

  #divert(pauseMs: number): void {
    const held = this.#phase === 'draining'
    this.#phase = 'diverting'
    this.#drainFrom = this.#options.clock.now() + pauseMs
    this.#cancel?.()
    if (held) this.#options.changed()
  }

  #drain(): void {
    this.#phase = 'draining'
    this.#drainUntil = this.#options.clock.now() + DRAIN_MS
    this.#look()
  }

  #look(): void {
    const { clock, store } = this.#options
    const askedMs = clock.now()
    const ask = (): Promise<OutboxStats> => store.stats()
    withDeadline(clock, askedMs + DRAIN_MS, ask, 'looking into the outbox').then(
      (stats) => this.#looked(this.#areGone(stats, askedMs)),
      () => this.#looked(false),
    )
  }

  /** A row of ours would be at least as old as our last append was when we asked. */
  #areGone({ pending, oldestAgeMs }: OutboxStats, askedMs: number): boolean {
    if (this.#appending > 0 || this.#lastAppendMs > askedMs) return false
    if (pending === 0 || oldestAgeMs === null) return true
    return oldestAgeMs + AGE_MARGIN_MS < askedMs - this.#lastAppendMs
  }

  #looked(gone: boolean): void {
    const { clock, changed } = this.#options
    if (this.#closed || this.#phase !== 'draining') return
    if (gone) {
      this.#phase = 'off'
      this.#topics.clear()
      changed()
    } else if (clock.now() < this.#drainUntil) {
      this.#cancel = clock.after(POLL_MS, () => this.#look())
    } else this.#divert(PAUSE_MS)
  }
}

/** A store's error as the outcome of an append: refused only when it is certain that nothing was committed. */
function outcomeOf(error: unknown): SendOutcome {
  const why = error instanceof Error ? error.message : String(error)
  const facts = { cause: error }
  if (isHoldfastError(error) && error.code !== 'commit-unknown' && error.code !== 'timeout') {
    const retryable = error instanceof StorageError && error.transient
    return {
      status: 'refused',
      error: new PublishRefusedError(error.code, why, { ...facts, retryable }),
    }
  }
  return { status: 'unknown', error: new OutcomeUnknownError('unanswered', why, facts) }
}
