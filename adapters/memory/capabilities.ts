import type { Capabilities, Ordering } from '../../src/contract/capabilities.ts'
import { OptionError } from '../../src/contract/errors.ts'
import { choiceOption, integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'

/** No limit: as large as a whole number gets, so that arithmetic on it stays exact. */
export const UNLIMITED: number = Number.MAX_SAFE_INTEGER

/**
 * What the memory broker can be made to lack, to behave as another broker would. Everything left out
 * stays at its best: all orderings, native delays, any hold, any order of settling, all headers.
 */
export interface CapabilitySwitches {
  readonly ordering?: readonly Ordering[]
  readonly keyRunsInOneSend?: boolean
  readonly retryDelay?: Capabilities['retryDelay']
  readonly attemptCount?: Capabilities['attemptCount']
  readonly atomicPublish?: Capabilities['atomicPublish']
  readonly pause?: Capabilities['pause']
  readonly hold?: Partial<Capabilities['hold']>
  readonly progress?: Partial<Capabilities['progress']>
  readonly headers?: Partial<Capabilities['headers']>
  readonly tombstones?: boolean
  readonly scheduledSend?: Capabilities['scheduledSend']
}

const switchNames: readonly (keyof CapabilitySwitches)[] = [
  'ordering',
  'keyRunsInOneSend',
  'retryDelay',
  'attemptCount',
  'atomicPublish',
  'pause',
  'hold',
  'progress',
  'headers',
  'tombstones',
  'scheduledSend',
]

/** The switches laid over the best there is; throws an `OptionError` for anything that is not one. */
export function resolveCapabilities(
  given: CapabilitySwitches,
  limits: Capabilities['limits'],
): Capabilities {
  refuseUnknownOptions('capabilities', given, switchNames)
  return Object.freeze({
    ordering: orderings(given.ordering),
    keyRunsInOneSend: flag('keyRunsInOneSend', given.keyRunsInOneSend),
    retryDelay: choice('retryDelay', given.retryDelay, ['native', 'levels', 'none']),
    attemptCount: choice('attemptCount', given.attemptCount, ['broker', 'header', 'none']),
    atomicPublish: choice('atomicPublish', given.atomicPublish, ['any', 'prefix', 'none']),
    pause: choice('pause', given.pause, ['source', 'all']),
    hold: hold(given.hold ?? {}),
    progress: progress(given.progress ?? {}),
    headers: headers(given.headers ?? {}),
    tombstones: flag('tombstones', given.tombstones),
    scheduledSend: scheduledSend(given.scheduledSend),
    reply: false,
    limits,
  })
}

function orderings(given: readonly Ordering[] | undefined): readonly Ordering[] {
  if (given === undefined) return Object.freeze(['key', 'partition', 'none'] as const)
  for (const one of given) choice('ordering', one, ['key', 'partition', 'none'])
  return Object.freeze([...given])
}

function hold(given: Partial<Capabilities['hold']>): Capabilities['hold'] {
  refuseUnknownOptions('capabilities.hold', given, ['maxMs', 'maxMessages', 'isolation'])
  return Object.freeze({
    maxMs: integerOption('capabilities.hold.maxMs', given.maxMs, UNLIMITED, { min: 1 }),
    maxMessages: integerOption('capabilities.hold.maxMessages', given.maxMessages, UNLIMITED, {
      min: 1,
    }),
    isolation: choice('hold.isolation', given.isolation, ['key', 'source']),
  })
}

function progress(given: Partial<Capabilities['progress']>): Capabilities['progress'] {
  refuseUnknownOptions('capabilities.progress', given, ['outOfOrder', 'maxHoles'])
  const outOfOrder = choice('progress.outOfOrder', given.outOfOrder, ['any', 'encoded', 'none'])
  const holes = outOfOrder === 'any' ? UNLIMITED : outOfOrder === 'encoded' ? 1_000 : 0
  return Object.freeze({
    outOfOrder,
    maxHoles: integerOption('capabilities.progress.maxHoles', given.maxHoles, holes, { min: 0 }),
  })
}

function headers(given: Partial<Capabilities['headers']>): Capabilities['headers'] {
  refuseUnknownOptions('capabilities.headers', given, ['duplicate', 'binary', 'null'])
  return Object.freeze({
    duplicate: flag('headers.duplicate', given.duplicate),
    binary: flag('headers.binary', given.binary),
    null: flag('headers.null', given.null),
  })
}

function scheduledSend(
  given: Capabilities['scheduledSend'] | undefined,
): Capabilities['scheduledSend'] {
  if (given === null) return null
  const name = 'capabilities.scheduledSend.maxDelayMs'
  return Object.freeze({
    maxDelayMs: integerOption(name, given?.maxDelayMs, UNLIMITED, { min: 1 }),
  })
}

function flag(name: string, given: boolean | undefined): boolean {
  if (given === undefined || typeof given === 'boolean') return given ?? true
  throw new OptionError(`capabilities.${name}`, given, 'true, false')
}

/** The first of what is allowed is the default. */
function choice<const T extends string>(
  name: string,
  given: T | undefined,
  allowed: readonly [T, ...T[]],
): T {
  return choiceOption(`capabilities.${name}`, given, allowed[0], allowed)
}
