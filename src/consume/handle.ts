import { type ContextOptions, ExecutionContext, MessageContext } from './context.ts'
import type { Held } from './held.ts'
import type { ReceivedMessage } from './message.ts'
import { EXHAUSTED, type Outcome } from './outcome.ts'
import { type RunOptions, runHandler } from './run-handler.ts'
import type { Eventually } from './value-or-promise.ts'

/** What handling needs. */
export interface HandlingOptions extends RunOptions, ContextOptions {
  /** Tries in all. */
  readonly attempts: number
  /** Somebody wants to know how long handlers take. */
  readonly isTimed: () => boolean
}

/**
 * Runs the handler for these messages, one after the other, and writes what came of it into their
 * outcomes. Never throws and never rejects; a synchronous handler costs no promise.
 */
export function handleEach(
  fresh: readonly Held[],
  tx: unknown,
  options: HandlingOptions,
  from = 0,
): Eventually<void> {
  for (let at = from; at < fresh.length; at++) {
    const one = fresh.length === 1 ? fresh : fresh.slice(at, at + 1)
    const step = handleOne(one, tx, options)
    if (step !== undefined) return step.then(() => handleEach(fresh, tx, options, at + 1))
  }
}

/** A slice of one. */
function handleOne(
  one: readonly Held[],
  tx: unknown,
  options: HandlingOptions,
): Promise<void> | undefined {
  const held = one[0] as Held
  if (held.attempt > options.attempts) {
    held.outcome = EXHAUSTED
    return undefined
  }
  const message = held.message as ReceivedMessage
  message.attempt = held.attempt
  held.startCounted = false
  const context = new MessageContext(message, one, tx, options)
  if (options.isTimed()) ExecutionContext.executionOf(context)
  const outcome = runHandler(message.payload, context, options)
  if (outcome instanceof Promise) return outcome.then((late) => conclude(one, tx, options, late))
  return conclude(one, tx, options, outcome)
}

/** Writes the outcome; what a handler published is stored before its messages count as done. */
function conclude(
  one: readonly Held[],
  tx: unknown,
  { publications }: HandlingOptions,
  outcome: Outcome,
): Promise<void> | undefined {
  const held = one[0] as Held
  held.outcome = outcome
  const { execution } = held
  if (execution === null || execution.publication === null) return undefined
  if (outcome.kind !== 'done' || !publications.separate) return undefined
  return publications.store(one, execution, tx)
}
