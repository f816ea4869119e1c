import type { Case } from '../case.ts'
import { claimingCases } from './claiming.ts'
import { concurringCases } from './concurring.ts'
import { consumingCases } from './consuming.ts'
import type { InboxHarness } from './harness.ts'
import { keepingCases } from './keeping.ts'

/** Every case of the inbox suite. */
export const inboxCases: readonly Case<InboxHarness>[] = [
  ...claimingCases,
  ...concurringCases,
  ...keepingCases,
  ...consumingCases,
]
