import pRetry from 'p-retry'

import { sleep, type Clock, type Random } from '../contract/clock.ts'
import { checkMethod, integerOption, refuseUnknownOptions } from '../contract/option.ts'
import { exponential, type Backoff } from './backoff.ts'

/** How often and how fast something is tried again. */
export interface RetryOptions {
  /** Tries in all, the first one included, 1 or more. */
  readonly attempts?: number
  /** Default `exponential()`. */
  readonly backoff?: Backoff
}

/** A retry policy with every default filled in; `attempts` may be Infinity. */
export interface RetryPolicy {
  readonly attempts: number
  readonly backoff: Backoff
}

/** Fills in defaults; throws an `OptionError` for anything that cannot be meant. */
export function resolveRetryPolicy(
  given: RetryOptions = {},
  attempts: number = Number.POSITIVE_INFINITY,
): RetryPolicy {
  refuseUnknownOptions('retry', given, ['attempts', 'backoff'])
  if (given.backoff !== undefined) {
    const allowed = 'exponential(…), constant(ms) or an object with delayFor()'
    checkMethod('retry.backoff', given.backoff, 'delayFor', allowed)
  }
  return Object.freeze({
    attempts:
      given.attempts === Number.POSITIVE_INFINITY
        ? given.attempts
        : integerOption('retry.attempts', given.attempts, attempts, { min: 1 }),
    backoff: given.backoff ?? exponential(),
  })
}

/** What retrying a piece of work needs. */
export interface RetryContext extends RetryPolicy {
  readonly clock: Clock
  readonly random: Random
  readonly signal?: AbortSignal
  /** Whether trying again can help. Default: always. */
  readonly retryable?: (error: unknown) => boolean
  /** Told before each wait. */
  readonly onRetry?: (error: unknown, attempt: number, delayMs: number) => void
}

/**
 * Does the work until it succeeds, retrying is pointless or the attempts are used up, and then rejects
 * with its own last error; or with the signal's reason, unless the try under way succeeds. For connections and bursts, never per message.
 */
export async function retry<T>(
  work: (attempt: number) => Promise<T>,
  context: RetryContext,
): Promise<T> {
  const { attempts, backoff, clock, random, signal, retryable = () => true, onRetry } = context
  signal?.throwIfAborted()
  try {
    return await pRetry((attempt) => attempted(work, attempt), {
      retries: attempts - 1,
      // The library's own delays are switched off: waiting is done below, on our clock. It is not
      // given the signal either: it would throw away what a try achieved while the signal aborted.
      minTimeout: 0,
      maxTimeout: 0,
      shouldRetry: async ({ error, attemptNumber }) => {
        const { reason } = error as Failed
        if (!retryable(reason)) return false
        const delayMs = backoff.delayFor(attemptNumber, random)
        onRetry?.(reason, attemptNumber, delayMs)
        await sleep(clock, delayMs, signal)
        return true
      },
    })
  } catch (error) {
    throw error instanceof Failed ? error.reason : error
  }
}

/** Carries what the work threw past the library, which would never retry a TypeError. */
class Failed extends Error {
  readonly reason: unknown

  constructor(reason: unknown) {
    super('the work failed')
    this.reason = reason
  }
}

async function attempted<T>(work: (attempt: number) => Promise<T>, attempt: number): Promise<T> {
  try {
    return await work(attempt)
  } catch (reason) {
    throw new Failed(reason)
  }
}
