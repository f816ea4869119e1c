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

/**
 * The `timeoutMs` of a call, or its default; throws an `OptionError` for what is no object of options,
 * for an option of another name, and for anything but a whole number of at least `min`.
 */
export function timeoutOption(
  call: string,
  given: { readonly timeoutMs?: number },
  fallback: number,
  min = 0,
): number {
  refuseUnknownOptions(call, given, ['timeoutMs'])
  return integerOption(`${call}.timeoutMs`, given.timeoutMs, fallback, { min })
}

/** Throws an `OptionError` unless it is an object of options. */
export function checkObject(name: string, given: unknown): void {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return
  throw new OptionError(name, given, 'an object')
}

/** Throws an `OptionError` unless the object has the method that shows what it is. */
export function checkMethod(name: string, given: unknown, method: string, allowed: string): void {
  const has = typeof (given as Record<string, unknown> | null | undefined)?.[method] === 'function'
  if (!has) throw new OptionError(name, given, allowed)
}

/** The option's function, or `undefined`; throws an `OptionError` for anything else. */
export function functionOption<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === 'function') return value
  throw new OptionError(name, value, 'a function')
}

/** The option's list, empty by default; throws an `OptionError` for anything else. */
export function listOption<T>(name: string, value: readonly T[] | undefined): readonly T[] {
  if (value === undefined) return []
  if (Array.isArray(value)) return value
  throw new OptionError(name, value, 'a list')
}

/**
 * Refuses what is no object of options, and names that are not options, so that a misspelt one is an
 * error and not a silent default.
 */
export function refuseUnknownOptions(what: string, given: object, known: readonly string[]): void {
  checkObject(what, given)
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const value = (given as Readonly<Record<string, unknown>>)[name]
    const names = known.length === 0 ? 'there are none' : known.join(', ')
    throw new OptionError(`${what}.${name}`, value, `no option of that name, only: ${names}`)
  }
}
