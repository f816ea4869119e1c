import { ByteReader } from '../kafka-bytes.ts'
import { isFlexibleAt, type Request } from './kafka-requests.ts'

/** What an answer to `Produce` says of the first record's place when there is none. */
const NOWHERE = -1n
const INT16 = 2
const INT64 = 8
/** Answers that begin with throttle time and error code from this version on. */
const errorBehindThrottle: Readonly<Record<string, number>> = {
  JoinGroup: 2,
  Heartbeat: 1,
  LeaveGroup: 1,
  SyncGroup: 1,
  InitProducerId: 0,
}

/**
 * Makes the broker's answer say that error: for `Produce` and `OffsetCommit` of the topics that match,
 * else of the whole. The frame is changed in place; throws where the layout is not known.
 */
export function putError(
  request: Request,
  frame: Buffer,
  code: number,
  matches: (topic: string) => boolean,
): void {
  const { api, version } = request
  const isFlexible = isFlexibleAt(api, version)
  const reader = new ByteReader(frame, 8)
  reader.tags(isFlexible)
  if (api === 'Produce') return produceErrors(reader, request, code, matches)
  if (api === 'OffsetCommit') return commitErrors(reader, request, code, matches)
  const from = errorBehindThrottle[api]
  if (from === undefined) throw new Error(`the proxy cannot put an error into ${api}`)
  if (version >= from) reader.int32()
  frame.writeInt16BE(code, reader.at)
}

function produceErrors(
  reader: ByteReader,
  { version, api }: Request,
  code: number,
  matches: (topic: string) => boolean,
): void {
  const isFlexible = isFlexibleAt(api, version)
  reader.list(() => {
    const isStruck = matches(reader.string(isFlexible) ?? '')
    reader.list(() => {
      reader.int32()
      if (isStruck) {
        reader.bytes.writeInt16BE(code, reader.at)
        reader.bytes.writeBigInt64BE(NOWHERE, reader.at + INT16)
      }
      reader.skip(INT16 + INT64 + INT64 + (version >= 5 ? INT64 : 0))
      if (version >= 8) skipRecordErrors(reader, isFlexible)
      reader.tags(isFlexible)
    }, isFlexible)
    reader.tags(isFlexible)
  }, isFlexible)
}

function skipRecordErrors(reader: ByteReader, isFlexible: boolean): void {
  reader.list(() => {
    reader.int32()
    reader.string(isFlexible)
    reader.tags(isFlexible)
  }, isFlexible)
  reader.string(isFlexible)
}

function commitErrors(
  reader: ByteReader,
  { version, api }: Request,
  code: number,
  matches: (topic: string) => boolean,
): void {
  const isFlexible = isFlexibleAt(api, version)
  if (version >= 3) reader.int32()
  reader.list(() => {
    const isStruck = matches(reader.string(isFlexible) ?? '')
    reader.list(() => {
      reader.int32()
      if (isStruck) reader.bytes.writeInt16BE(code, reader.at)
      reader.skip(INT16)
      reader.tags(isFlexible)
    }, isFlexible)
    reader.tags(isFlexible)
  }, isFlexible)
}
