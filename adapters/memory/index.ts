/** The door `holdfast/memory`: a broker, an outbox and an inbox in this process, for tests and demos. */
export { memory, MemoryBroker, type MemoryBrokerOptions } from './broker.ts'
export type { CapabilitySwitches } from './capabilities.ts'
export type { Aim, Fault, MemoryFaults, Where } from './faults.ts'
export type { MemoryOptions } from './options.ts'
export type { PublishedMessage } from './published.ts'
