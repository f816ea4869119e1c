export { kafka } from './broker.ts'
export type { MappedGroup, MappedTopic } from './mapping.ts'
export type {
  Compression,
  DriverName,
  KafkajsClient,
  KafkaOptions,
  Partitioner,
} from './options.ts'
export type { SaslOptions, TlsOptions } from './security.ts'
