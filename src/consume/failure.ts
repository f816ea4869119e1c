import { type ErrorCode, isHoldfastError, shown } from '../contract/errors.ts'
import type { Breaker } from '../policy/circuit-breaker.ts'
import type { Outcome } from './outcome.ts'

/** What was thrown, as an error: handlers may throw anything. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`thrown: ${shown(thrown)}`, { cause: thrown })
}

/**
 * What an error of a store or a send says about the message. That they are away, closed or out of
 * order says nothing; everything else is the message's own failure.
 */
export function failureOf(error: Error): Outcome {
  return { kind: isElsewhere(error) ? 'unavailable' : 'failed', error }
}

/** A database that cannot be reached from inside a handler is no failure of the message either. */
export function isStoreAway(error: Error): boolean {
  return (
    isHoldfastError(error) &&
    error.name === 'StorageError' &&
    (error as { transient?: unknown }).transient === true
  )
}

/** Said by whoever could not be reached, or not in time. */
const elsewhere: ReadonlySet<ErrorCode> = new Set(['busy', 'closed', 'timeout'])

function isElsewhere(error: Error): boolean {
  if (!isHoldfastError(error)) return false
  if (elsewhere.has(error.code)) return true
  if (error.name === 'StorageError' || error.name === 'OutcomeUnknownError') return true
  return error.name !== 'HoldfastError' && (error as { retryable?: unknown }).retryable === true
}

/** Tells a breaker what a try that was admitted in that generation says about what handlers depend on. */
export function tellBreaker(breaker: Breaker, outcome: Outcome, generation: number): void {
  if (outcome.kind === 'done') breaker.success(generation)
  else if (outcome.kind === 'failed' && !isOwnFault(outcome.error)) breaker.failure(generation)
  else breaker.forgo(generation)
}

/** The message's, or the inbox's: others would not fail for it. */
function isOwnFault(error: Error): boolean {
  return isHoldfastError(error) && (error.code === 'permanent' || error.code === 'commit-unknown')
}
