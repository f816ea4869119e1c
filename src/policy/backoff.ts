import type { Random } from '../contract/clock.ts'
import { choiceOption, integerOption, refuseUnknownOptions } from '../contract/option.ts'
import { OptionError } from '../contract/errors.ts'

/**
 * How long to wait before trying again. A value: asking changes nothing, so one backoff can be shared
 * by any number of messages.
 */
export interface Backoff {
  /** Milliseconds to wait after the `attempt`-th try (1-based) failed. */
  delayFor(attempt: number, random: Random): number
}

/** Options of `exponential`. */
export interface ExponentialOptions {
  /** Longest wait after the first failure, in milliseconds. Default 50. */
  readonly initialMs?: number
  /** Longest wait of all, in milliseconds. Default 5 000. */
  readonly maxMs?: number
  /** How much longer each wait may be than the one before. Default 2. */
  readonly factor?: number
  /** 'full' (default): anywhere between 0 and the longest, so that many clients do not come back at once. */
  readonly jitter?: 'full' | 'none'
}

/** Waits that grow by `factor` up to `maxMs`; throws an `OptionError` for values out of range. */
export function exponential(options: ExponentialOptions = {}): Backoff {
  refuseUnknownOptions('backoff', options, ['initialMs', 'maxMs', 'factor', 'jitter'])
  const initialMs = integerOption('backoff.initialMs', options.initialMs, 50, { min: 1 })
  const maxMs = integerOption('backoff.maxMs', options.maxMs, Math.max(5_000, initialMs), {
    min: initialMs,
  })
  const factor = checkedFactor(options.factor)
  const jitter = choiceOption('backoff.jitter', options.jitter, 'full', ['full', 'none'])
  return Object.freeze({
    delayFor: (attempt: number, random: Random) => {
      const longest = Math.min(maxMs, initialMs * factor ** (Math.max(1, attempt) - 1))
      return jitter === 'full' ? longest * random.next() : longest
    },
  })
}

/** The same wait every time. */
export function constant(ms: number): Backoff {
  const delayMs = integerOption('backoff.ms', ms, 0, { min: 0 })
  return Object.freeze({ delayFor: () => delayMs })
}

function checkedFactor(factor: number | undefined): number {
  if (factor === undefined) return 2
  if (Number.isFinite(factor) && factor >= 1) return factor
  throw new OptionError('backoff.factor', factor, 'a number, 1 or more')
}
