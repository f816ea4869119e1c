import { OptionError } from './errors.ts'

/** Range of a numeric option, both ends included. */
export interface Range {
  readonly min: number
  readonly max?: number
}

/** The option's value or its default; throws an `OptionError` with name, value and range. */
export function integerOption(
  name: string,
  value: number | undefined,
  fallback: number,
  { min, max = Number.MAX_SAFE_INTEGER }: Range,
): number {
  if (value === undefined) return fallback
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value
  const upTo = max === Number.MAX_SAFE_INTEGER ? 'or more' : `to ${max}`
  throw new OptionError(name, value, `a whole number, ${min} ${upTo}`)
}

/** The option's value or its default; throws an `OptionError` that lists what is allowed. */
export function choiceOption<const T extends string>(
  name: string,
  value: T | undefined,
  fallback: T,
  allowed: readonly T[],
): T {
  if (value === undefined) return fallback
  if (allowed.includes(value)) return value
  throw new OptionError(name, value, allowed.map((one) => `'${one}'`).join(', '))
}

/** Refuses names that are not options, so that a misspelt one is an error and not a silent default. */
export function refuseUnknownOptions(what: string, given: object, known: readonly string[]): void {
  for (const name of Object.keys(given)) {
    if (!known.includes(name)) throw new OptionError(`${what}.${name}`, 'unknown', known.join(', '))
  }
}
