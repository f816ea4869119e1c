import { checkCode } from './answer-error.ts'
import type { Metadata } from './cluster.ts'
import { writeList, writeText, type Request } from './request.ts'

/** What a node says of the versions it takes: highest by number of the request. */
export type Versions = Readonly<Record<number, { readonly maxVersion: number }>>

/** A node and where it is. */
export interface NodeAddress {
  readonly nodeId: number
  readonly host: string
  readonly port: number
}

/** Metadata with addresses. */
export interface AddressedMetadata extends Metadata {
  readonly brokers: readonly NodeAddress[]
}

/** Configuration of a resource, as it was asked for. */
export interface Described {
  readonly resources: readonly {
    readonly configEntries: readonly { readonly configName: string; readonly configValue: string }[]
  }[]
}

/** Which requests a node takes. */
export const apiVersions: Request<null, Versions> = {
  key: 18,
  version: 0,
  name: 'ApiVersions',
  encode: () => undefined,
  decode: (reader) => {
    checkCode(reader.int16())
    const known = reader.list((one) => {
      const key = one.int16()
      one.int16()
      return [key, { maxVersion: one.int16() }] as const
    })
    return Object.fromEntries(known)
  },
}

/** Nodes, topics and leaders; none of them means all topics. An error of one topic is that topic's. */
export const metadata: Request<readonly string[], AddressedMetadata> = {
  key: 3,
  version: 5,
  name: 'Metadata',
  encode: (writer, topics) => {
    if (topics.length === 0) writer.int32(-1)
    else writeList(writer, topics, (topic) => writeText(writer, topic))
    // Topics are not made by asking for them.
    writer.int8(0)
  },
  decode: (reader) => {
    reader.int32()
    const brokers = reader.list((one) => {
      const address = { nodeId: one.int32(), host: one.text() ?? '', port: one.int32() }
      one.text()
      return address
    })
    reader.text()
    const controllerId = reader.int32()
    const topicMetadata = reader.list((one) => {
      const topicErrorCode = one.int16()
      const topic = one.text() ?? ''
      one.int8()
      return { topicErrorCode, topic, partitionMetadata: one.list(partitionOf) }
    })
    return { brokers, controllerId, topicMetadata }
  },
}

function partitionOf(
  reader: Parameters<typeof metadata.decode>[0],
): Metadata['topicMetadata'][number]['partitionMetadata'][number] {
  reader.int16()
  const partitionId = reader.int32()
  const leader = reader.int32()
  const [replicas, isr] = [reader.list((one) => one.int32()), reader.list((one) => one.int32())]
  reader.list((one) => one.int32())
  return { partitionId, leader, replicas: replicas ?? [], isr: isr ?? [] }
}

/** The node that keeps a group (type 0) or a transactional id (type 1). */
export const findCoordinator: Request<
  { readonly groupId: string; readonly coordinatorType: number },
  { readonly coordinator: NodeAddress }
> = {
  key: 10,
  version: 1,
  name: 'FindCoordinator',
  encode: (writer, { groupId, coordinatorType }) => {
    writeText(writer, groupId)
    writer.int8(coordinatorType)
  },
  decode: (reader) => {
    reader.int32()
    checkCode(reader.int16(), reader.text())
    return {
      coordinator: { nodeId: reader.int32(), host: reader.text() ?? '', port: reader.int32() },
    }
  },
}

/** Makes topics. */
export const createTopics: Request<
  {
    readonly topics: readonly {
      readonly topic: string
      readonly numPartitions: number
      readonly replicationFactor: number
      readonly configEntries: readonly { readonly name: string; readonly value: string }[]
    }[]
    readonly timeout: number
  },
  null
> = {
  key: 19,
  version: 2,
  name: 'CreateTopics',
  encode: (writer, { topics, timeout }) => {
    writeList(writer, topics, ({ topic, numPartitions, replicationFactor, configEntries }) => {
      writeText(writer, topic)
      writer.int32(numPartitions)
      writer.int16(replicationFactor)
      writer.int32(0)
      writeList(writer, configEntries, ({ name, value }) => {
        writeText(writer, name)
        writeText(writer, value)
      })
      writer.ensure(8)
    })
    writer.ensure(8)
    writer.int32(timeout)
    writer.int8(0)
  },
  decode: (reader) => {
    reader.int32()
    reader.list((one) => {
      one.text()
      checkCode(one.int16(), one.text())
    })
    return null
  },
}

/** Deletes topics. */
export const deleteTopics: Request<
  { readonly topics: readonly string[]; readonly timeout: number },
  null
> = {
  key: 20,
  version: 1,
  name: 'DeleteTopics',
  encode: (writer, { topics, timeout }) => {
    writeList(writer, topics, (topic) => writeText(writer, topic))
    writer.int32(timeout)
  },
  decode: (reader) => {
    reader.int32()
    reader.list((one) => {
      one.text()
      checkCode(one.int16())
    })
    return null
  },
}

/** All settings of topics or nodes. */
export const describeConfigs: Request<
  { readonly resources: readonly { readonly type: number; readonly name: string }[] },
  Described
> = {
  key: 32,
  version: 1,
  name: 'DescribeConfigs',
  encode: (writer, { resources }) => {
    writeList(writer, resources, ({ type, name }) => {
      writer.int8(type)
      writeText(writer, name)
      writer.int32(-1)
    })
    writer.int8(0)
  },
  decode: (reader) => {
    reader.int32()
    const resources = reader.list((one) => {
      checkCode(one.int16(), one.text())
      one.int8()
      one.text()
      return { configEntries: one.list(entryOf) }
    })
    return { resources }
  },
}

function entryOf(
  reader: Parameters<typeof describeConfigs.decode>[0],
): Described['resources'][number]['configEntries'][number] {
  const configName = reader.text() ?? ''
  const configValue = reader.text() ?? ''
  // Read-only, where it is from, secret.
  reader.view(3)
  reader.list((one) => [one.text(), one.text(), one.int8()])
  return { configName, configValue }
}

/** A number for a producer, under a transactional id if it has one. */
export const initProducerId: Request<
  { readonly transactionalId?: string; readonly transactionTimeout: number },
  { readonly producerId: string; readonly producerEpoch: number }
> = {
  key: 22,
  version: 1,
  name: 'InitProducerId',
  encode: (writer, { transactionalId, transactionTimeout }) => {
    writeText(writer, transactionalId ?? null)
    writer.int32(transactionTimeout)
  },
  decode: (reader) => {
    reader.int32()
    checkCode(reader.int16())
    return { producerId: reader.int64().toString(), producerEpoch: reader.int16() }
  },
}
