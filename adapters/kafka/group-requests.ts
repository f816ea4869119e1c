import { AnswerError, checkCode } from './answer-error.ts'
import { readCode, writeBytes, writeList, writeText, type Request } from './request.ts'

/** Partitions by topic. */
type ByTopic<P> = readonly { readonly topic: string; readonly partitions: readonly P[] }[]

/** Answers by topic. */
export interface Listed<P> {
  readonly responses: ByTopic<P & { readonly partition: number }>
}

/** Who asks. `generation` and `groupGenerationId` are the same by two names. */
interface Who {
  readonly groupId: string
  readonly memberId: string
}

const NO_BYTES = Buffer.alloc(0)
/** No static member. */
const NO_INSTANCE = null

/** Joins a group; the first time a member gets its id by an error that brings it. */
export const joinGroup: Request<
  Who & {
    readonly sessionTimeout: number
    readonly rebalanceTimeout: number
    readonly groupProtocols: readonly { readonly name: string; readonly metadata: Buffer }[]
  },
  {
    /** Not joined yet: to be asked again with the member's id. */
    readonly isIdRequired: boolean
    readonly generationId: number
    readonly groupProtocol: string
    readonly leaderId: string
    readonly memberId: string
    readonly members: readonly { readonly memberId: string; readonly memberMetadata: Buffer }[]
  }
> = {
  key: 11,
  version: 5,
  name: 'JoinGroup',
  encode: (writer, asked) => {
    writeText(writer, asked.groupId)
    writer.int32(asked.sessionTimeout)
    writer.int32(asked.rebalanceTimeout)
    writeText(writer, asked.memberId)
    writeText(writer, NO_INSTANCE)
    writeText(writer, 'consumer')
    writeList(writer, asked.groupProtocols, ({ name, metadata }) => {
      writeText(writer, name)
      writeBytes(writer, metadata)
    })
  },
  decode: (reader) => {
    reader.int32()
    const code = reader.int16()
    const isIdRequired = code === ID_REQUIRED
    if (!isIdRequired) checkCode(code)
    const generationId = reader.int32()
    const groupProtocol = reader.text() ?? ''
    const leaderId = reader.text() ?? ''
    const memberId = reader.text() ?? ''
    const members = reader.list((one) => {
      const id = one.text() ?? ''
      one.text()
      return { memberId: id, memberMetadata: one.bytes() ?? NO_BYTES }
    })
    return { isIdRequired, generationId, groupProtocol, leaderId, memberId, members }
  },
}

const ID_REQUIRED = 79

/** Hands out, or waits for, what each member gets. */
export const syncGroup: Request<
  Who & {
    readonly generationId: number
    readonly groupAssignment: readonly {
      readonly memberId: string
      readonly memberAssignment: Buffer
    }[]
  },
  { readonly memberAssignment: Buffer | null }
> = {
  key: 14,
  version: 3,
  name: 'SyncGroup',
  encode: (writer, { groupId, generationId, memberId, groupAssignment }) => {
    writeText(writer, groupId)
    writer.int32(generationId)
    writeText(writer, memberId)
    writeText(writer, NO_INSTANCE)
    writeList(writer, groupAssignment, (one) => {
      writeText(writer, one.memberId)
      writeBytes(writer, one.memberAssignment)
    })
  },
  decode: (reader) => {
    reader.int32()
    checkCode(reader.int16())
    return { memberAssignment: reader.bytes() }
  },
}

/** Says that a member is alive. */
export const heartbeat: Request<Who & { readonly groupGenerationId: number }, null> = {
  key: 12,
  version: 3,
  name: 'Heartbeat',
  encode: (writer, { groupId, groupGenerationId, memberId }) => {
    writeText(writer, groupId)
    writer.int32(groupGenerationId)
    writeText(writer, memberId)
    writeText(writer, NO_INSTANCE)
  },
  decode: readCode,
}

/** Leaves a group. */
export const leaveGroup: Request<Who, null> = {
  key: 13,
  version: 2,
  name: 'LeaveGroup',
  encode: (writer, { groupId, memberId }) => {
    writeText(writer, groupId)
    writeText(writer, memberId)
  },
  decode: readCode,
}

/** Commits offsets. */
export const offsetCommit: Request<
  Who & {
    readonly groupGenerationId: number
    readonly topics: ByTopic<{
      readonly partition: number
      readonly offset: string
      readonly metadata: string | null
    }>
  },
  null
> = {
  key: 8,
  version: 5,
  name: 'OffsetCommit',
  encode: (writer, { groupId, groupGenerationId, memberId, topics }) => {
    writeText(writer, groupId)
    writer.int32(groupGenerationId)
    writeText(writer, memberId)
    writeList(writer, topics, ({ topic, partitions }) => {
      writeText(writer, topic)
      writeList(writer, partitions, ({ partition, offset, metadata }) => {
        writer.int32(partition)
        writer.int64(BigInt(offset))
        writeText(writer, metadata)
      })
    })
  },
  decode: (reader) => {
    reader.int32()
    checkParts(reader)
    return null
  },
}

/** Throws for the first partition that has an error. */
export function checkParts(reader: Parameters<typeof offsetCommit.decode>[0]): void {
  let failed = 0
  reader.list((topic) => {
    topic.text()
    topic.list((part) => {
      part.int32()
      const code = part.int16()
      if (failed === 0) failed = code
    })
  })
  if (failed !== 0) throw new AnswerError(failed)
}

/** Offsets that a group has committed. */
export const offsetFetch: Request<
  {
    readonly groupId: string
    readonly topics: ByTopic<{ readonly partition: number }>
  },
  Listed<{ readonly offset: string; readonly metadata: string | null }>
> = {
  key: 9,
  version: 3,
  name: 'OffsetFetch',
  encode: (writer, { groupId, topics }) => {
    writeText(writer, groupId)
    writeList(writer, topics, ({ topic, partitions }) => {
      writeText(writer, topic)
      writeList(writer, partitions, ({ partition }) => writer.int32(partition))
    })
  },
  decode: (reader) => {
    reader.int32()
    const responses = reader.list((one) => {
      const topic = one.text() ?? ''
      const partitions = one.list((part) => {
        const partition = part.int32()
        const offset = part.int64().toString()
        const text = part.text()
        checkCode(part.int16())
        return { partition, offset, metadata: text }
      })
      return { topic, partitions }
    })
    checkCode(reader.int16())
    return { responses }
  },
}

/** Offsets by time; -1: the end, -2: the beginning. */
export const listOffsets: Request<
  {
    readonly isolationLevel: number
    readonly topics: ByTopic<{ readonly partition: number; readonly timestamp: string }>
  },
  Listed<{ readonly offset: string }>
> = {
  key: 2,
  version: 2,
  name: 'ListOffsets',
  encode: (writer, { isolationLevel, topics }) => {
    writer.int32(-1)
    writer.int8(isolationLevel)
    writeList(writer, topics, ({ topic, partitions }) => {
      writeText(writer, topic)
      writeList(writer, partitions, ({ partition, timestamp }) => {
        writer.int32(partition)
        writer.int64(BigInt(timestamp))
      })
    })
  },
  decode: (reader) => {
    reader.int32()
    const responses = reader.list((one) => {
      const topic = one.text() ?? ''
      const partitions = one.list((part) => {
        const partition = part.int32()
        checkCode(part.int16())
        part.int64()
        return { partition, offset: part.int64().toString() }
      })
      return { topic, partitions }
    })
    return { responses }
  },
}
