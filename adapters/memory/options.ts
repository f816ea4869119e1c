import type { Capabilities } from '../../src/contract/capabilities.ts'
import { OptionError } from '../../src/contract/errors.ts'
import { choiceOption, integerOption, refuseUnknownOptions } from '../../src/contract/option.ts'
import { type CapabilitySwitches, resolveCapabilities } from './capabilities.ts'

/** What `memory()` takes; everything has a default. */
export interface MemoryOptions {
  /** What the broker is made to lack. Default: nothing. */
  readonly capabilities?: CapabilitySwitches
  /** Largest body taken, in bytes, for all topics or by topic. Default 16 MiB. */
  readonly maxBodyBytes?: number | Readonly<Record<string, number>>
  /** Most messages a group may have waiting; beyond, publishing is refused. Default 1 000 000. */
  readonly maxDepth?: number
  /** Keeps what was published, so that a new group may start at 'earliest'. Default false. */
  readonly history?: boolean
  /** Up to how many messages of each topic `published()` shows; 0: none are kept. Default 1 000. */
  readonly keepPublished?: number
  /** 'manual': nothing is handed over except by `deliver()`. Default 'auto'. */
  readonly delivery?: 'auto' | 'manual'
  /** How long a holder may finish what it has when a source is taken from it in order. Default 5 000. */
  readonly rebalanceMs?: number
}

/** The options with every default filled in. */
export interface Settings {
  readonly capabilities: Capabilities
  readonly maxDepth: number
  readonly history: boolean
  readonly keepPublished: number
  readonly manual: boolean
  readonly rebalanceMs: number
}

const DEFAULT_BODY_BYTES = 16_777_216

/** Fills in defaults; throws an `OptionError` with name, value and range for what is not allowed. */
export function resolveOptions(given: MemoryOptions): Settings {
  refuseUnknownOptions('memory', given, [
    'capabilities',
    'maxBodyBytes',
    'maxDepth',
    'history',
    'keepPublished',
    'delivery',
    'rebalanceMs',
  ])
  if (given.history !== undefined && typeof given.history !== 'boolean') {
    throw new OptionError('history', given.history, 'true, false')
  }
  return Object.freeze({
    capabilities: resolveCapabilities(given.capabilities ?? {}, limitsOf(given.maxBodyBytes)),
    maxDepth: integerOption('maxDepth', given.maxDepth, 1_000_000, { min: 1 }),
    history: given.history ?? false,
    keepPublished: integerOption('keepPublished', given.keepPublished, 1_000, { min: 0 }),
    manual: choiceOption('delivery', given.delivery, 'auto', ['auto', 'manual']) === 'manual',
    rebalanceMs: integerOption('rebalanceMs', given.rebalanceMs, 5_000, { min: 0 }),
  })
}

function limitsOf(given: MemoryOptions['maxBodyBytes']): Capabilities['limits'] {
  const byTopic = new Map<string, { readonly maxBodyBytes: number }>()
  const everywhere = typeof given === 'number' ? given : undefined
  const fallback = limit('maxBodyBytes', everywhere)
  for (const [topic, bytes] of Object.entries(typeof given === 'object' ? given : {})) {
    byTopic.set(topic, limit(`maxBodyBytes.${topic}`, bytes))
  }
  return (topic) => byTopic.get(topic) ?? fallback
}

function limit(name: string, bytes: number | undefined): { readonly maxBodyBytes: number } {
  return Object.freeze({
    maxBodyBytes: integerOption(name, bytes, DEFAULT_BODY_BYTES, { min: 1 }),
  })
}
