import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import type { TopicPartition } from './driver.ts'

/** What a member says of itself when it joins. */
export interface MemberClaim {
  /** Kafka topics it wants. */
  readonly topics: readonly string[]
  /** The generation it got what it owns in; -1: none. */
  readonly generation: number
  /** What it has and has not given up. */
  readonly owned: readonly TopicPartition[]
}

/** Version of Kafka's own part of the format; what is ours travels as user data. */
const VERSION = 0
const NO_CLAIM = { generation: -1, owned: [] }

/** A claim as members send it when they join; any other consumer of the group can read the topics of it. */
export function encodeClaim({ topics, generation, owned }: MemberClaim): Buffer {
  const own = Buffer.from(JSON.stringify({ holdfast: 1, generation, owned: byTopic(owned) }))
  const writer = begun(topics.length)
  for (const topic of topics) writer.text16(topic)
  return ended(writer, own)
}

/** Reads what any kind of consumer sent; those that are not ours own nothing. */
export function decodeClaim(metadata: Buffer): MemberClaim {
  const reader = new ByteReader(metadata)
  reader.int16()
  const topics = reader.list((one) => one.text() ?? '')
  const own = reader.left >= 4 ? reader.bytes() : null
  return { topics, ...(own === null ? NO_CLAIM : ownPart(own)) }
}

/** An assignment as the leader sends it to a member. */
export function encodeAssignment(parts: readonly TopicPartition[]): Buffer {
  const topics = Object.entries(byTopic(parts))
  const writer = begun(topics.length)
  for (const [topic, partitions] of topics) {
    writer.text16(topic)
    writer.ensure(4 + 4 * partitions.length)
    writer.int32(partitions.length)
    for (const partition of partitions) writer.int32(partition)
  }
  return ended(writer, new Uint8Array(0))
}

/** Nothing at all is an assignment of nothing. */
export function decodeAssignment(assignment: Buffer): TopicPartition[] {
  if (assignment.length === 0) return []
  const reader = new ByteReader(assignment)
  reader.int16()
  return reader
    .list((one) => {
      const topic = one.text() ?? ''
      return one.list((part) => ({ topic, partition: part.int32() }))
    })
    .flat()
}

function begun(topics: number): ByteWriter {
  const writer = new ByteWriter()
  writer.int16(VERSION)
  writer.int32(topics)
  return writer
}

/** With what is for members of our kind only. */
function ended(writer: ByteWriter, own: Uint8Array): Buffer {
  writer.ensure(4 + own.length)
  writer.int32(own.length)
  writer.raw(own)
  return Buffer.from(writer.written)
}

function ownPart(own: Buffer): Pick<MemberClaim, 'generation' | 'owned'> {
  try {
    const read = JSON.parse(own.toString('utf8')) as {
      readonly holdfast: number
      readonly generation: number
      readonly owned: Readonly<Record<string, readonly number[]>>
    }
    if (read.holdfast !== 1 || !Number.isInteger(read.generation)) return NO_CLAIM
    const owned = Object.entries(read.owned).flatMap(([topic, partitions]) =>
      partitions.map((partition) => ({ topic, partition })),
    )
    return { generation: read.generation, owned }
  } catch {
    return NO_CLAIM
  }
}

function byTopic(parts: readonly TopicPartition[]): Record<string, number[]> {
  const topics: Record<string, number[]> = {}
  for (const { topic, partition } of parts) (topics[topic] ??= []).push(partition)
  return topics
}
