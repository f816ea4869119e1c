import { connect } from 'node:net'

import { ByteReader, ByteWriter } from './kafka-bytes.ts'

const TRY_MS = 5_000
const CLIENT = 'rig'
const PREFERRED = 0
const LEADER_IS_PREFERRED = 84
const NO_STRING = -1

interface Request {
  readonly api: number
  readonly version: number
  /** With tagged fields in the headers. */
  readonly isFlexible?: boolean
  readonly body: ByteWriter
}

/** A partition as a broker knows it. */
export interface PartitionFacts {
  readonly partition: number
  /** -1: none. */
  readonly leader: number
  readonly replicas: readonly number[]
  readonly isr: readonly number[]
}

/** What a broker knows of its cluster. */
export interface ClusterFacts {
  /** Ids of the brokers that are up. */
  readonly brokers: readonly number[]
  /** Of the topic that was asked for, in the order of their numbers; null where it is not known. */
  readonly partitions: readonly PartitionFacts[] | null
}

/**
 * Asks one broker at a port of this machine, over a connection of its own, and resolves with the body
 * of the answer. For what the clients in use cannot ask, or only of a broker they choose.
 */
function ask(port: number, request: Request): Promise<ByteReader> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: TRY_MS })
    let received = Buffer.alloc(0)
    const fail = (error: Error): void => {
      socket.destroy()
      reject(error)
    }
    socket.once('connect', () => socket.write(encode(request)))
    socket.once('timeout', () => fail(new Error(`no answer at port ${port}`)))
    socket.once('error', fail)
    socket.once('close', () => fail(new Error(`port ${port} was closed before it answered`)))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4 || received.length < 4 + received.readInt32BE()) return
      const answer = new ByteReader(received, 8)
      answer.tags(request.isFlexible ?? false)
      resolve(answer)
      socket.destroy()
    })
  })
}

function encode({ api, version, isFlexible = false, body }: Request): Buffer {
  const header = new ByteWriter().int16(api).int16(version).int32(1).string(CLIENT).tags(isFlexible)
  const payload = Buffer.concat([header.bytes, body.bytes])
  return new ByteWriter().int32(payload.length).raw(payload).bytes
}

/** What this broker knows of the cluster, and of a topic when one is named. Rejects when it does not answer. */
export async function askCluster(port: number, topic: string | null = null): Promise<ClusterFacts> {
  const body = new ByteWriter().count(topic === null ? 0 : 1)
  if (topic !== null) body.string(topic)
  const answer = await ask(port, { api: 3, version: 5, body: body.int8(0) })
  answer.int32()
  const brokers = answer.list(() => brokerOf(answer))
  answer.string()
  answer.int32()
  const [facts = null] = answer.list(() => topicOf(answer))
  return { brokers, partitions: facts }
}

function brokerOf(answer: ByteReader): number {
  const id = answer.int32()
  answer.string()
  answer.int32()
  answer.string()
  return id
}

/** Null when there is no such topic, as far as this broker knows. */
function topicOf(answer: ByteReader): readonly PartitionFacts[] | null {
  const error = answer.int16()
  answer.string()
  answer.int8()
  const partitions = answer.list(() => partitionOf(answer))
  return error === 0 ? partitions.toSorted((a, b) => a.partition - b.partition) : null
}

function partitionOf(answer: ByteReader): PartitionFacts {
  answer.int16()
  const [partition, leader] = [answer.int32(), answer.int32()]
  const replicas = answer.list(() => answer.int32())
  const isr = answer.list(() => answer.int32())
  answer.list(() => answer.int32())
  return { partition, leader, replicas, isr }
}

/** The node that leads the controllers. Clients are told some broker's id instead. */
export async function askController(port: number): Promise<number> {
  const body = new ByteWriter().count(1, true).string('__cluster_metadata', true)
  body.count(1, true).int32(0).tags().tags().tags()
  const answer = await ask(port, { api: 55, version: 0, isFlexible: true, body })
  const error = answer.int16()
  if (error !== 0) throw new Error(`the quorum was not described: error ${error}`)
  answer.count(true)
  answer.string(true)
  answer.count(true)
  answer.int32()
  const partitionError = answer.int16()
  if (partitionError !== 0) throw new Error(`the quorum has no leader: error ${partitionError}`)
  return answer.int32()
}

/**
 * Makes the first replica of each partition its leader; returns the partitions that could not be, or
 * that had it as their leader already, with the error's code.
 */
export async function electPreferred(
  port: number,
  topic: string,
  partitions: readonly number[],
): Promise<ReadonlyMap<number, number>> {
  const body = new ByteWriter().int8(PREFERRED).count(1).string(topic).count(partitions.length)
  for (const partition of partitions) body.int32(partition)
  const answer = await ask(port, { api: 43, version: 1, body: body.int32(TRY_MS) })
  answer.int32()
  const error = answer.int16()
  if (error !== 0 && error !== LEADER_IS_PREFERRED) {
    throw new Error(`no leaders of ${topic} were elected: error ${error}`)
  }
  const failed = new Map<number, number>()
  answer.list(() => {
    answer.string()
    answer.list(() => {
      const [partition, code] = [answer.int32(), answer.int16()]
      answer.string()
      if (code !== 0) failed.set(partition, code)
    })
  })
  return failed
}

/** The node that coordinates a group, as this broker knows it. */
export async function askCoordinator(port: number, groupId: string): Promise<number> {
  const body = new ByteWriter().string(groupId).int8(0)
  const answer = await ask(port, { api: 10, version: 2, body })
  answer.int32()
  const error = answer.int16()
  if (error !== 0) throw new Error(`the group ${groupId} has no coordinator: error ${error}`)
  answer.string()
  return answer.int32()
}

/** Takes members out of their group, as an operator would: they hear of it at their next heartbeat. */
export async function removeMembers(
  coordinatorPort: number,
  groupId: string,
  memberIds: readonly string[],
): Promise<void> {
  const body = new ByteWriter().string(groupId).count(memberIds.length)
  for (const memberId of memberIds) body.string(memberId).int16(NO_STRING)
  const answer = await ask(coordinatorPort, { api: 13, version: 3, body })
  answer.int32()
  const error = answer.int16()
  if (error !== 0) throw new Error(`no member of ${groupId} was removed: error ${error}`)
}
