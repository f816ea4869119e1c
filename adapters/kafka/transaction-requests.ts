import { AnswerError, checkCode } from './answer-error.ts'
import {
  readCompact,
  readCompactList,
  skipTags,
  writeCompact,
  writeCompactList,
  writeCompactNumbers,
  writeTags,
} from './compact.ts'
import type { CommitOffset, CommittedOffset, TopicPartition } from './driver.ts'
import type { Member } from './group-link.ts'
import { checkParts } from './group-requests.ts'
import { readCode, writeList, writeText, type Request } from './request.ts'

/** A producer within a transaction. */
export interface Transactional {
  readonly transactionalId: string
  readonly producerId: bigint
  readonly producerEpoch: number
}

/** Says which partitions will be written to. */
export const addPartitionsToTxn: Request<
  Transactional & { readonly parts: readonly TopicPartition[] },
  null
> = {
  key: 24,
  version: 1,
  name: 'AddPartitionsToTxn',
  encode: (writer, { transactionalId, producerId, producerEpoch, parts }) => {
    writeText(writer, transactionalId)
    writer.int64(producerId)
    writer.int16(producerEpoch)
    writeList(writer, byTopic(parts), ([topic, ofTopic]) => {
      writeText(writer, topic)
      writeList(writer, ofTopic, ({ partition }) => writer.int32(partition))
    })
  },
  decode: (reader) => {
    reader.int32()
    checkParts(reader)
    return null
  },
}

/** Says that a group's offsets will be committed. */
export const addOffsetsToTxn: Request<Transactional & { readonly groupId: string }, null> = {
  key: 25,
  version: 1,
  name: 'AddOffsetsToTxn',
  encode: (writer, { transactionalId, producerId, producerEpoch, groupId }) => {
    writeText(writer, transactionalId)
    writer.int64(producerId)
    writer.int16(producerEpoch)
    writeText(writer, groupId)
  },
  decode: readCode,
}

/** Commits or aborts. */
export const endTxn: Request<Transactional & { readonly commits: boolean }, null> = {
  key: 26,
  version: 1,
  name: 'EndTxn',
  encode: (writer, { transactionalId, producerId, producerEpoch, commits }) => {
    writeText(writer, transactionalId)
    writer.int64(producerId)
    writer.int16(producerEpoch)
    writer.int8(commits ? 1 : 0)
  },
  decode: readCode,
}

/**
 * Offsets that count when the transaction is committed. It carries the member and its generation: whoever
 * was replaced meanwhile is refused (KIP-447).
 */
export const txnOffsetCommit: Request<
  Transactional & {
    readonly groupId: string
    readonly member: Member
    readonly offsets: readonly CommitOffset[]
  },
  null
> = {
  key: 28,
  version: 3,
  name: 'TxnOffsetCommit',
  encode: (writer, asked) => {
    const { transactionalId, groupId, producerId, producerEpoch, member, offsets } = asked
    // Of the header, which is the client's.
    writeTags(writer)
    writeCompact(writer, transactionalId)
    writeCompact(writer, groupId)
    writer.int64(producerId)
    writer.int16(producerEpoch)
    writer.int32(member.generation)
    writeCompact(writer, member.id)
    writeCompact(writer, null)
    writeCompactList(writer, byTopic(offsets), ([topic, ofTopic]) => {
      writeCompact(writer, topic)
      writeCompactList(writer, ofTopic, ({ partition, offset, metadata }) => {
        writer.int32(partition)
        writer.int64(offset)
        writer.int32(-1)
        writeCompact(writer, metadata ?? '')
      })
    })
    writeTags(writer)
  },
  decode: (reader) => {
    skipTags(reader)
    reader.int32()
    const codes = readCompactList(reader, (topic) => {
      readCompact(topic)
      return readCompactList(topic, (part) => {
        part.int32()
        return part.int16()
      })
    })
    const failed = codes.flat().find((code) => code !== 0)
    if (failed !== undefined) throw new AnswerError(failed)
    return null
  },
}

/**
 * Offsets that a group has committed, and that no open transaction is about to change: while one is,
 * code 88.
 */
export const stableOffsets: Request<
  { readonly groupId: string; readonly parts: readonly TopicPartition[] },
  readonly CommittedOffset[]
> = {
  key: 9,
  version: 7,
  name: 'OffsetFetch',
  encode: (writer, { groupId, parts }) => {
    writeTags(writer)
    writeCompact(writer, groupId)
    writeCompactList(writer, byTopic(parts), ([topic, ofTopic]) => {
      writeCompact(writer, topic)
      const numbers = ofTopic.map(({ partition }) => partition)
      writeCompactNumbers(writer, numbers)
    })
    writer.int8(1)
    writeTags(writer)
  },
  decode: (reader) => {
    skipTags(reader)
    reader.int32()
    const offsets = readCompactList(reader, (one) => {
      const topic = readCompact(one) ?? ''
      return readCompactList(one, (part) => {
        const partition = part.int32()
        const offset = part.int64()
        // The epoch of the leader then.
        part.int32()
        const metadata = readCompact(part)
        checkCode(part.int16())
        return {
          topic,
          partition,
          offset: offset < 0n ? null : offset,
          metadata: metadata === '' ? null : metadata,
        }
      })
    })
    checkCode(reader.int16())
    return offsets.flat()
  },
}

function byTopic<T extends TopicPartition>(parts: readonly T[]): [topic: string, parts: T[]][] {
  const topics = new Map<string, T[]>()
  for (const part of parts) {
    const ofTopic = topics.get(part.topic)
    if (ofTopic === undefined) topics.set(part.topic, [part])
    else ofTopic.push(part)
  }
  return [...topics]
}
