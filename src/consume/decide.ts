import type { Capabilities } from '../contract/capabilities.ts'
import type { Random } from '../contract/clock.ts'
import { isHoldfastError } from '../contract/errors.ts'
import { type Backoff, exponential } from '../policy/backoff.ts'
import type { Outcome, Verdict } from './outcome.ts'

/** What a consumer promised its handler and what its broker can keep. */
export interface Terms {
  /** Tries in all. */
  readonly attempts: number
  readonly backoff: Backoff
  readonly onExhausted: 'dead-letter' | 'discard'
  readonly retryDelay: Capabilities['retryDelay']
}

/** One delivery as deciding sees it. */
export interface Tried {
  /** Number of the try that ended, 1-based. */
  readonly attempt: number
  /** Tries behind it before that one. */
  readonly made: number
  /** Followers wait for it, so it may not travel through the broker. */
  readonly ordered: boolean
  /** Ascending; used where the broker keeps delays in levels. */
  readonly levelsMs: readonly number[]
  /** Waits in a row that said nothing about the message, this one not counted. */
  readonly uncounted: number
  /** The breaker says that failing says nothing about the message. */
  readonly breakerOpen: boolean
}

const ACK: Verdict = Object.freeze({ kind: 'ack' })
const RELEASE: Verdict = Object.freeze({ kind: 'release' })

/** Another transaction of ours usually ends in no time. */
const whileBusy = exponential({ initialMs: 20, maxMs: 1_000 })
/** A store or a broker that is away stays so for a while. */
const whileAway = exponential({ initialMs: 200, maxMs: 10_000 })

/** A year: longer than anything is held or retained. */
const LONGEST_DELAY_MS = 365 * 86_400_000

/** What is to happen with a delivery, from what happened. Pure but for the jitter it draws. */
export function decide(outcome: Outcome, tried: Tried, terms: Terms, random: Random): Verdict {
  switch (outcome.kind) {
    case 'done':
    case 'duplicate':
      return ACK
    case 'aborted':
      return RELEASE
    case 'deferred':
      return { kind: 'wait', ms: 0, made: tried.made }
    case 'busy':
      return waitUncounted(whileBusy, tried, random)
    case 'unavailable':
      return waitUncounted(whileAway, tried, random)
    case 'early':
      return onItsWay(outcome.ms, tried, terms)
    case 'poison':
      return { kind: 'dead', reason: outcome.reason, error: outcome.error, made: tried.made }
    case 'exhausted':
      return givenUp(null, tried.attempt - 1, terms)
    case 'failed':
      return afterFailure(outcome.error, tried, terms, random)
  }
}

function afterFailure(error: Error, tried: Tried, terms: Terms, random: Random): Verdict {
  const code = isHoldfastError(error) ? error.code : null
  // It may be committed: only the inbox can say, so it is asked again, never given up, never counted.
  if (code === 'commit-unknown') return waitUncounted(whileAway, tried, random)
  const made = tried.attempt
  if (code === 'permanent') return { kind: 'dead', reason: 'permanent', error, made }
  if (tried.breakerOpen) return waitUncounted(whileAway, tried, random)
  if (made >= terms.attempts) return givenUp(error, made, terms)
  return later(sane(terms.backoff.delayFor(tried.attempt, random)), tried, terms)
}

function waitUncounted(backoff: Backoff, tried: Tried, random: Random): Verdict {
  return { kind: 'wait', ms: backoff.delayFor(tried.uncounted + 1, random), made: tried.made }
}

/** The rest of a delay that is longer than the longest level. */
function onItsWay(ms: number, { made, ordered }: Tried, { retryDelay }: Terms): Verdict {
  const travels = !ordered && retryDelay !== 'none'
  return { kind: travels ? 'retry' : 'wait', ms, made }
}

/** Through the broker where that keeps the order and is never early, else in the lane. */
function later(ms: number, tried: Tried, terms: Terms): Verdict {
  const travels = !tried.ordered && canTravel(ms, tried, terms)
  return { kind: travels ? 'retry' : 'wait', ms, made: tried.attempt }
}

function canTravel(ms: number, { levelsMs }: Tried, { retryDelay }: Terms): boolean {
  if (retryDelay === 'native') return true
  const first = levelsMs[0]
  return retryDelay === 'levels' && first !== undefined && ms >= first
}

/** A back-off of the user's own may answer anything; what is no delay is none. */
function sane(ms: number): number {
  return ms > 0 ? Math.min(ms, LONGEST_DELAY_MS) : 0
}

function givenUp(error: Error | null, made: number, { onExhausted }: Terms): Verdict {
  const reason = 'attempts-exhausted'
  if (onExhausted === 'discard') return { kind: 'discard', reason, made }
  return { kind: 'dead', reason, error, made }
}
