import type { Case } from '../case.ts'
import { carryingCases } from './contract/carrying.ts'
import type { BrokerHarness } from './harness.ts'

/** Every case of the broker suite, contract first. */
export const brokerCases: readonly Case<BrokerHarness>[] = [...carryingCases]
