import { ByteReader } from '../kafka-bytes.ts'

/** Requests of Kafka's protocol that tests have a word for. */
const names = {
  0: 'Produce',
  1: 'Fetch',
  2: 'ListOffsets',
  3: 'Metadata',
  8: 'OffsetCommit',
  9: 'OffsetFetch',
  10: 'FindCoordinator',
  11: 'JoinGroup',
  12: 'Heartbeat',
  13: 'LeaveGroup',
  14: 'SyncGroup',
  17: 'SaslHandshake',
  18: 'ApiVersions',
  19: 'CreateTopics',
  20: 'DeleteTopics',
  22: 'InitProducerId',
  24: 'AddPartitionsToTxn',
  25: 'AddOffsetsToTxn',
  26: 'EndTxn',
  28: 'TxnOffsetCommit',
  32: 'DescribeConfigs',
  36: 'SaslAuthenticate',
} as const

/** Name of a request; `other` for what is not listed. */
export type ApiName = (typeof names)[keyof typeof names] | 'other'

/** From this version on lengths are compact and there are tagged fields. */
const flexibleFrom: Partial<Record<ApiName, number>> = {
  Produce: 9,
  OffsetCommit: 8,
  JoinGroup: 6,
  Heartbeat: 4,
  LeaveGroup: 4,
  SyncGroup: 4,
}

/** From here on topics have ids instead of names. */
const PRODUCE_BY_ID = 13
/** Where a batch of records says how many it holds. */
const COUNT_IN_BATCH = 57

/** A request on its way to the broker, as far as the proxy can tell. */
export interface Seen {
  readonly api: ApiName
  readonly version: number
  readonly clientId: string | null
  /** Of `Produce`: what it writes to; records per topic. Empty for everything else. */
  readonly records: ReadonlyMap<string, number>
  /** Of what a member says to its group. */
  readonly group: string | null
}

/** A request with what is needed to find its answer. */
export interface Request extends Seen {
  readonly correlationId: number
}

/** Reads a frame that came from a client, size included. */
export function readRequest(frame: Buffer): Request {
  const reader = new ByteReader(frame, 4)
  const key = reader.int16()
  const api: ApiName = (names as Partial<Record<number, ApiName>>)[key] ?? 'other'
  const version = reader.int16()
  const correlationId = reader.int32()
  const clientId = reader.string()
  const isFlexible = isFlexibleAt(api, version)
  reader.tags(isFlexible)
  return {
    api,
    version,
    correlationId,
    clientId,
    records: api === 'Produce' && version < PRODUCE_BY_ID ? recordsOf(reader, isFlexible) : none,
    group: flexibleFrom[api] !== undefined && api !== 'Produce' ? reader.string(isFlexible) : null,
  }
}

export function isFlexibleAt(api: ApiName, version: number): boolean {
  return version >= (flexibleFrom[api] ?? Infinity)
}

const none: ReadonlyMap<string, number> = new Map()

function recordsOf(reader: ByteReader, isFlexible: boolean): ReadonlyMap<string, number> {
  reader.string(isFlexible)
  reader.int16()
  reader.int32()
  const records = new Map<string, number>()
  reader.list(() => {
    const topic = reader.string(isFlexible) ?? ''
    reader.list(() => {
      reader.int32()
      const batch = reader.blob(isFlexible)
      records.set(topic, (records.get(topic) ?? 0) + countIn(batch))
      reader.tags(isFlexible)
    }, isFlexible)
    reader.tags(isFlexible)
  }, isFlexible)
  return records
}

function countIn(batch: Buffer | null): number {
  return batch !== null && batch.length >= COUNT_IN_BATCH + 4
    ? batch.readInt32BE(COUNT_IN_BATCH)
    : 0
}
