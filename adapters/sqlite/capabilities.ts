import type { Capabilities } from '../../src/contract/capabilities.ts'

const UNLIMITED = Number.MAX_SAFE_INTEGER

/** What the SQLite broker keeps: rows can be settled in any order and wait for any time. */
export function capabilitiesOf(maxBodyBytes: number): Capabilities {
  return Object.freeze<Capabilities>({
    ordering: ['key', 'none'] as const,
    keyRunsInOneSend: true,
    retryDelay: 'native',
    attemptCount: 'broker',
    atomicPublish: 'none',
    pause: 'source',
    hold: { maxMs: UNLIMITED, maxMessages: UNLIMITED, isolation: 'key' as const },
    progress: { outOfOrder: 'any' as const, maxHoles: UNLIMITED },
    headers: { duplicate: true, binary: true, null: true },
    tombstones: true,
    scheduledSend: { maxDelayMs: UNLIMITED },
    reply: false,
    limits: () => ({ maxBodyBytes }),
  })
}
