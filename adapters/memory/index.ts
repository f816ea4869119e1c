/** The door `holdfast/memory`: a broker, an outbox and an inbox in this process, for tests and demos. */
export { memory, MemoryBroker, type MemoryBrokerOptions } from './broker.ts'
export type { CapabilitySwitches } from './capabilities.ts'
export type { Aim, Fault, MemoryFaults, Where } from './faults.ts'
export type { MemoryOptions } from './options.ts'
export type { PublishedMessage } from './published.ts'

export { memoryDatabase, MemoryDatabase, type MemoryDatabaseOptions } from './database.ts'
export type { DatabaseFaults } from './database-faults.ts'
export { memoryInbox, type MemoryInbox, type MemoryInboxOptions } from './inbox.ts'
export { memoryOutbox, type MemoryOutbox, type MemoryStoreOptions } from './outbox.ts'
export type { DeadRow } from './outbox-table.ts'
export type { MemoryTransaction } from './transaction.ts'
