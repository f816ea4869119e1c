/**
 * The door `holdfast/conformance`: what an adapter has to keep, as cases that run in any test runner.
 *
 * ```ts
 * await registerCases(brokerCases, { describe, it }, () => ({ name: 'mine', connect: () => mine() }))
 * ```
 */
export { choose, inParallel, type Case, type LeftOut, type Need } from './case.ts'
export type { Pace } from './limits.ts'
export { registerCases, type TestRunner } from './register.ts'

export { brokerCases, contractCases, pathCases } from './broker/cases.ts'
export type { BrokerFaults, BrokerHarness, Heal, SecondProcess } from './broker/harness.ts'

export { outboxCases } from './outbox/cases.ts'
export type { OpenTransaction, OutboxDatabase, OutboxHarness } from './outbox/harness.ts'

export { inboxCases } from './inbox/cases.ts'
export type { InboxDatabase, InboxHarness } from './inbox/harness.ts'
