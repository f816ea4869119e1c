export { rabbitmq } from './broker.ts'
export type { MappedGroup, MappedTopic } from './mapping.ts'
export type { Credentials, RabbitmqOptions, TlsOptions } from './options.ts'
