export { sqlite, type SqliteBrokerOptions } from './broker.ts'
export {
  openDatabase,
  type DatabaseOptions,
  type SqliteDatabase,
  type TransactionOptions,
} from './database.ts'
export type { RunResult, SqlRow, SqlValue } from './driver.ts'
export { sqliteInbox, type SqliteInboxOptions } from './inbox.ts'
export type { FileOptions } from './options.ts'
export { sqliteOutbox, type SqliteOutboxOptions } from './outbox.ts'
export type { SqliteTransaction } from './transaction.ts'
export { fromBetterSqlite3, fromNodeSqlite, type UserConnection } from './user-connection.ts'
