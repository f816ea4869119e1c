import type { Capabilities } from '../../src/contract/capabilities.ts'
import { CapabilityError } from '../../src/contract/errors.ts'
import type { Resolved } from './options.ts'

/** Version of the server, as it says itself. */
export type Version = readonly [major: number, minor: number, patch: number]

/** What a quorum queue hands one consumer at most, prefetch 0 included. */
export const MOST_HELD = 2_000

/** A delivery has to be settled this much before the broker takes it back. */
const SETTLE_MARGIN_MS = 60_000

/** First version with delayed retry, consumer argument `x-consumer-timeout`, and different reject and nack. */
const SINCE_DELAYED_RETRY: Version = [4, 3, 0]

/** Whether a version is that or a later one. */
export function isAtLeast(version: Version, least: Version): boolean {
  for (const [index, part] of least.entries()) {
    const own = version[index] as number
    if (own !== part) return own > part
  }
  return true
}

/** True from 4.3 on: nack gives back without counting, reject counts, consumer timeouts are per consumer. */
export function tellsFailureFromRelease(version: Version): boolean {
  return isAtLeast(version, SINCE_DELAYED_RETRY)
}

/**
 * What this server keeps under these options. Throws a `CapabilityError` for `nativeRetry` on a server
 * before 4.3, which takes the arguments and ignores them.
 */
export function capabilitiesOf(options: Resolved, version: Version): Capabilities {
  const { nativeRetry, consumerTimeoutMs, maxBodyBytes } = options
  if (nativeRetry !== null && !tellsFailureFromRelease(version)) {
    const text = `nativeRetry needs RabbitMQ 4.3, this is ${version.join('.')}: leave the option out, retries then wait in delay queues, on every version`
    throw new CapabilityError(text)
  }
  return Object.freeze<Capabilities>({
    ordering: ['key', 'partition', 'none'] as const,
    keyRunsInOneSend: false,
    retryDelay: nativeRetry === null ? 'levels' : 'native',
    attemptCount: nativeRetry === null ? 'header' : 'broker',
    atomicPublish: 'none',
    pause: 'source',
    hold: {
      maxMs: consumerTimeoutMs - SETTLE_MARGIN_MS,
      maxMessages: MOST_HELD,
      isolation: 'key' as const,
    },
    progress: { outOfOrder: 'any' as const, maxHoles: Number.MAX_SAFE_INTEGER },
    headers: { duplicate: false, binary: true, null: true },
    tombstones: true,
    scheduledSend: null,
    reply: false,
    limits: () => ({ maxBodyBytes }),
  })
}
