import type { Case } from '../case.ts'
import { appendingCases } from './appending.ts'
import type { OutboxHarness } from './harness.ts'
import { leasingCases } from './leasing.ts'
import { movingCases } from './moving.ts'
import { relayingCases } from './relaying.ts'

/** Every case of the outbox suite. */
export const outboxCases: readonly Case<OutboxHarness>[] = [
  ...appendingCases,
  ...leasingCases,
  ...movingCases,
  ...relayingCases,
]
