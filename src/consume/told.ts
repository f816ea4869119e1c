import type { Clock } from '../contract/clock.ts'
import type { Emit } from '../contract/events.ts'
import type { DeadReason } from './dead-reasons.ts'
import type { DeadVerdict } from './dead-letter.ts'
import type { Held } from './held.ts'

/** Tells what became of deliveries; builds an event only when somebody listens. */
export class Told {
  readonly #group: string
  readonly #clock: Clock
  readonly #emit: Emit

  constructor(group: string, clock: Clock, emit: Emit) {
    this.#group = group
    this.#clock = clock
    this.#emit = emit
  }

  /** Handled, or found to be a duplicate. */
  ended(held: Held): void {
    if (held.outcome?.kind === 'duplicate') {
      if (this.#emit.wants('message.duplicate')) {
        this.#emit({ type: 'message.duplicate', ...this.#about(held, held.attempt) })
      }
    } else if (this.#emit.wants('message.done')) {
      const durationMs = this.#clock.now() - (held.execution?.startedMs ?? held.sinceMs)
      this.#emit({ type: 'message.done', durationMs, ...this.#about(held, held.attempt) })
    }
  }

  retried(held: Held, delayMs: number, via: 'lane' | 'broker'): void {
    if (held.outcome?.kind !== 'failed' || !this.#emit.wants('message.retry')) return
    const { error } = held.outcome
    this.#emit({ type: 'message.retry', delayMs, via, error, ...this.#about(held, held.attempt) })
  }

  dead(held: Held, { reason, error, made }: DeadVerdict): void {
    this.#emit({ type: 'message.dead', reason, error, ...this.#about(held, made) })
  }

  discarded(held: Held, reason: DeadReason, made: number): void {
    this.#emit({ type: 'message.discarded', reason, ...this.#about(held, made) })
  }

  /** Its handler ignores its signal. */
  stuck(held: Held, startedMs: number): void {
    const forMs = this.#clock.now() - startedMs
    this.#emit({ type: 'handler.stuck', forMs, ...this.#about(held, held.attempt) })
  }

  #about(
    { topic, delivery, id }: Held,
    attempt: number,
  ): { topic: string; group: string; id: string | null; attempt: number; at: string } {
    return { topic: topic.name, group: this.#group, id, attempt, at: delivery.at }
  }
}
