import { describe, it } from 'vitest'

import type { MemoryOptions } from '../../../adapters/memory/index.ts'
import { brokerCases, registerCases } from '../../conformance/index.ts'
import { harness } from './harness.ts'

/** Other brokers, as far as their capabilities tell them apart. */
const variants: readonly (readonly [name: string, options: MemoryOptions])[] = [
  ['memory', {}],
  ['memory with history and a low limit', { history: true, maxBodyBytes: 2_000_000 }],
  [
    'memory as a queue broker with retry levels',
    {
      maxBodyBytes: 1_500_000,
      capabilities: {
        keyRunsInOneSend: false,
        retryDelay: 'levels',
        attemptCount: 'header',
        atomicPublish: 'none',
        pause: 'all',
        hold: { maxMs: 1_800_000, maxMessages: 60_000 },
        headers: { duplicate: false },
        tombstones: false,
        scheduledSend: null,
      },
    },
  ],
  [
    'memory as a log that encodes its progress',
    {
      capabilities: {
        retryDelay: 'levels',
        attemptCount: 'header',
        atomicPublish: 'prefix',
        hold: { isolation: 'source' },
        progress: { outOfOrder: 'encoded', maxHoles: 1_400 },
        scheduledSend: null,
      },
    },
  ],
  [
    'memory as a broker of leases',
    {
      capabilities: {
        keyRunsInOneSend: false,
        atomicPublish: 'none',
        hold: { maxMs: 43_200_000, maxMessages: 64, isolation: 'source' },
        headers: { duplicate: false, binary: false, null: false },
        tombstones: false,
      },
    },
  ],
  [
    'memory that can do as little as a broker may',
    {
      capabilities: {
        ordering: ['none'],
        keyRunsInOneSend: false,
        retryDelay: 'none',
        attemptCount: 'none',
        atomicPublish: 'none',
        pause: 'all',
        progress: { outOfOrder: 'none' },
        headers: { duplicate: false, binary: false, null: false },
        tombstones: false,
        scheduledSend: null,
      },
    },
  ],
]

const runner = { describe, it }

for (const [name, options] of variants) {
  await registerCases(brokerCases, runner, () => harness(name, options))
}
