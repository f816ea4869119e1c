import type { Case } from '../case.ts'
import { carryingCases } from './contract/carrying.ts'
import { enduranceCases } from './contract/endurance.ts'
import { extraCases } from './contract/extras.ts'
import { groupCases } from './contract/groups.ts'
import { intakeCases } from './contract/intake.ts'
import { leaseCases } from './contract/leases.ts'
import { lifecycleCases } from './contract/lifecycle.ts'
import { orderingCases } from './contract/ordering.ts'
import { refusingCases } from './contract/refusing.ts'
import { retryingCases } from './contract/retrying.ts'
import { revokingCases } from './contract/revoking.ts'
import { settlingCases } from './contract/settling.ts'
import { sourceCases } from './contract/sources.ts'
import type { BrokerHarness } from './harness.ts'
import { endingCases } from './paths/ending.ts'
import { handlingCases } from './paths/handling.ts'
import { joiningCases } from './paths/joining.ts'
import { laneCases } from './paths/lanes.ts'
import { publishingCases } from './paths/publishing.ts'
import { processCases } from './processes/cases.ts'

/** Cases that hold an adapter to the contract: `Broker`, `Sender` and `Receiver` are driven directly. */
export const contractCases: readonly Case<BrokerHarness>[] = [
  ...lifecycleCases,
  ...carryingCases,
  ...groupCases,
  ...refusingCases,
  ...settlingCases,
  ...retryingCases,
  ...orderingCases,
  ...intakeCases,
  ...sourceCases,
  ...revokingCases,
  ...leaseCases,
  ...extraCases,
  ...enduranceCases,
]

/** Cases that go the whole way: `ReliablePublisher` and `ReliableConsumer` on top of the adapter. */
export const pathCases: readonly Case<BrokerHarness>[] = [
  ...publishingCases,
  ...handlingCases,
  ...laneCases,
  ...joiningCases,
  ...endingCases,
]

/** Every case of the broker suite. */
export const brokerCases: readonly Case<BrokerHarness>[] = [
  ...contractCases,
  ...pathCases,
  ...processCases,
]
