export { sqlite, type SqliteBrokerOptions } from './broker.ts'
export type { FileOptions } from './options.ts'
