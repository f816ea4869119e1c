import { createRequire } from 'node:module'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

import { ByteReader } from '../../../adapters/kafka/byte-reader.ts'
import { ByteWriter } from '../../../adapters/kafka/byte-writer.ts'

const require = createRequire(import.meta.url)

interface DecodedBatch {
  readonly producerId: string
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly records: readonly FakeRecord[]
}

type DecodeBatch = (decoder: object) => Promise<DecodedBatch>

/** kafkajs's own reading of batches: what this project writes is read by somebody else here. */
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as DecodeBatch
const Decoder = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => object
const crc32cOf = require('kafkajs/src/protocol/recordBatch/crc32C') as (bytes: Buffer) => number

/** A record as kafkajs reads it. */
export interface FakeRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, Buffer | null | (Buffer | null)[]>>
  readonly timestamp: string
}

/** One partition of a Produce request, before anything is done with it. */
export interface AskedPart {
  readonly node: number
  readonly topic: string
  readonly partition: number
  readonly producerId: string
  readonly sequence: number
  readonly values: readonly string[]
  /** How often this very batch came before. */
  readonly earlier: number
}

/** What is done instead of answering in order. */
export interface Fault {
  /** The code that is answered; with `stores`, although the batch is in the log. */
  readonly code?: number
  /** Whether the batch goes into the log. Default: when no code says otherwise. */
  readonly stores?: boolean
  /** The answer does not name the partition. */
  readonly omitted?: boolean
  /** `cut`: the connection ends instead of an answer; `silent`: it stays and says nothing. */
  readonly answer?: 'cut' | 'silent'
  readonly throttleMs?: number
}

/** Decides about each part of each request; `null`: as a broker does. */
export type Faults = (part: AskedPart) => Fault | null

interface Stored {
  readonly producerId: string
  readonly sequence: number
  readonly offset: number
}

/** A partition of the fake: its leader, its log and what it knows of producers. */
class Partition {
  leader: number
  readonly log: FakeRecord[] = []
  readonly #batches: Stored[] = []

  constructor(leader: number) {
    this.leader = leader
  }

  /** As a broker: a batch it has is answered with its offset, numbers that do not follow are refused. */
  append({ producerId, firstSequence, records }: DecodedBatch): { code: number; offset: number } {
    const own = this.#batches.filter((one) => one.producerId === producerId)
    const known = own.find(({ sequence }) => sequence === firstSequence)
    if (known !== undefined) return { code: 0, offset: known.offset }
    const last = own.at(-1)
    if (last !== undefined && firstSequence <= last.sequence) return { code: 46, offset: -1 }
    const offset = this.log.length
    this.log.push(...records)
    this.#batches.push({ producerId, sequence: firstSequence, offset })
    return { code: 0, offset }
  }
}

/** Nodes that speak as much of Kafka's protocol as a producer needs, and can be told to misbehave. */
export class FakeCluster {
  readonly #servers: Server[]
  readonly #sockets = new Set<Socket>()
  readonly #topics = new Map<string, Partition[]>()
  readonly #seen = new Map<string, number>()
  readonly asked: AskedPart[] = []
  faults: Faults = () => null
  /** Code of an answer to InitProducerId. */
  identityCode: number = 0
  /** Nodes that answer nothing at all. */
  readonly hung: Set<number> = new Set()
  identities: number = 0
  requests: number = 0

  private constructor(servers: Server[]) {
    this.#servers = servers
  }

  static async start(nodes = 1): Promise<FakeCluster> {
    const servers = Array.from({ length: nodes }, () => createServer())
    const cluster = new FakeCluster(servers)
    for (const [node, server] of servers.entries()) {
      server.on('connection', (socket) => cluster.#serve(node, socket))
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', () => resolve()))
    }
    return cluster
  }

  get brokers(): readonly string[] {
    return this.#servers.map((server) => `127.0.0.1:${(server.address() as AddressInfo).port}`)
  }

  /** Makes a topic whose partitions are led by these nodes. */
  topic(name: string, ...leaders: readonly number[]): void {
    this.#topics.set(
      name,
      leaders.map((leader) => new Partition(leader)),
    )
  }

  deleteTopic(name: string): void {
    this.#topics.delete(name)
  }

  move(topic: string, partition: number, leader: number): void {
    this.#partition(topic, partition).leader = leader
  }

  /** Values in the log, in order. */
  log(topic: string, partition = 0): readonly string[] {
    return this.records(topic, partition).map(({ value }) => String(value))
  }

  records(topic: string, partition = 0): readonly FakeRecord[] {
    return this.#partition(topic, partition).log
  }

  /** Ends all connections; new ones are taken. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async stop(): Promise<void> {
    this.cut()
    await Promise.all(
      this.#servers.map((server) => new Promise((resolve) => void server.close(resolve))),
    )
  }

  #partition(topic: string, partition: number): Partition {
    const found = this.#topics.get(topic)?.[partition]
    if (found === undefined) throw new Error(`no partition ${topic}/${partition}`)
    return found
  }

  #serve(node: number, socket: Socket): void {
    this.#sockets.add(socket)
    let bytes = Buffer.alloc(0)
    // As a broker: one request of a connection after the other.
    let turn = Promise.resolve()
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => undefined)
    socket.on('data', (more) => {
      bytes = Buffer.concat([bytes, more])
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readInt32BE(0)) {
        const end = 4 + bytes.readInt32BE(0)
        const frame = bytes.subarray(4, end)
        bytes = bytes.subarray(end)
        turn = turn.then(() => this.#answer(node, socket, new ByteReader(frame)))
      }
    })
  }

  async #answer(node: number, socket: Socket, reader: ByteReader): Promise<void> {
    this.requests++
    const [apiKey, version] = [reader.int16(), reader.int16()]
    const correlation = reader.int32()
    reader.text()
    if (this.hung.has(node)) return
    const writer = new ByteWriter()
    writer.int32(0)
    writer.int32(correlation)
    if (apiKey === 18) this.#versions(writer, version)
    else if (apiKey === 3) this.#metadata(writer, reader)
    else if (apiKey === 22) this.#identity(writer)
    else if (apiKey !== 0) throw new Error(`the fake does not know request ${apiKey}`)
    else if (!(await this.#produce(node, socket, writer, reader))) return
    writer.setInt32(0, writer.at - 4)
    socket.write(Buffer.from(writer.written))
  }

  #versions(writer: ByteWriter, version: number): void {
    const known = [
      [0, 3, 7],
      [3, 1, 1],
      [18, 0, 2],
      [22, 0, 0],
    ]
    writer.int16(0)
    writer.int32(known.length)
    for (const numbers of known) for (const number of numbers) writer.int16(number)
    if (version > 0) writer.int32(0)
  }

  #metadata(writer: ByteWriter, reader: ByteReader): void {
    const topics = reader.list((one) => one.text() as string)
    writer.int32(this.#servers.length)
    for (const [node, broker] of this.brokers.entries()) {
      writer.int32(node)
      writer.text16('127.0.0.1')
      writer.int32(Number(broker.split(':')[1]))
      writer.int16(-1)
    }
    writer.int32(0)
    writer.int32(topics.length)
    for (const topic of topics) this.#topicMetadata(writer, topic)
  }

  #topicMetadata(writer: ByteWriter, topic: string): void {
    const partitions = this.#topics.get(topic)
    writer.ensure(1_024)
    writer.int16(partitions === undefined ? 3 : 0)
    writer.text16(topic)
    writer.int8(0)
    writer.int32(partitions?.length ?? 0)
    for (const [index, { leader }] of (partitions ?? []).entries()) {
      writer.ensure(64)
      writer.int16(leader < 0 ? 5 : 0)
      writer.int32(index)
      writer.int32(leader)
      // Replicas, and those in sync.
      for (const one of [1, Math.max(0, leader), 1, Math.max(0, leader)]) writer.int32(one)
    }
  }

  #identity(writer: ByteWriter): void {
    writer.int32(0)
    writer.int16(this.identityCode)
    writer.int64(BigInt(1_000 + this.identities++))
    writer.int16(0)
  }

  async #produce(
    node: number,
    socket: Socket,
    writer: ByteWriter,
    reader: ByteReader,
  ): Promise<boolean> {
    if (reader.text() !== null) throw new Error('a transaction')
    if (reader.int16() !== -1) throw new Error('acks is not all')
    reader.int32()
    const topics = reader.list((one) => ({
      topic: one.text() as string,
      parts: one.list((part) => ({ partition: part.int32(), bytes: part.bytes() as Buffer })),
    }))
    const answered: { topic: string; partition: number; code: number; offset: number }[] = []
    let end: Fault['answer']
    let throttleMs = 0
    for (const { topic, parts } of topics) {
      for (const { partition, bytes } of parts) {
        const [fault, said] = await this.#take(node, topic, partition, bytes)
        end ??= fault?.answer
        throttleMs = Math.max(throttleMs, fault?.throttleMs ?? 0)
        if (fault?.omitted !== true) answered.push({ topic, partition, ...said })
      }
    }
    if (end === 'cut') socket.destroy()
    if (end !== undefined) return false
    writer.int32(answered.length)
    for (const { topic, partition, code, offset } of answered) {
      writer.ensure(1_024)
      writer.text16(topic)
      writer.int32(1)
      writer.int32(partition)
      writer.int16(code)
      for (const number of [offset, -1, 0]) writer.int64(BigInt(number))
    }
    writer.int32(throttleMs)
    return true
  }

  async #take(
    node: number,
    topic: string,
    partition: number,
    bytes: Buffer,
  ): Promise<[Fault | null, { code: number; offset: number }]> {
    if (bytes.readUInt32BE(17) !== crc32cOf(bytes.subarray(21))) throw new Error('wrong sum')
    const batch = await decodeBatch(new Decoder(bytes))
    const { producerId, firstSequence: sequence } = batch
    const name = `${topic}/${partition}/${producerId}/${sequence}`
    const earlier = this.#seen.get(name) ?? 0
    this.#seen.set(name, earlier + 1)
    const values = batch.records.map(({ value }) => String(value))
    const part = { node, topic, partition, producerId, sequence, values, earlier }
    this.asked.push(part)
    const fault = this.faults(part)
    const found = this.#topics.get(topic)?.[partition]
    if (found === undefined) return [fault, { code: 3, offset: -1 }]
    const refusal = fault?.code ?? (found.leader === node ? 0 : 6)
    const stores = fault?.stores ?? refusal === 0
    const said = stores ? found.append(batch) : { code: refusal, offset: -1 }
    return [fault, fault?.code === undefined ? said : { code: fault.code, offset: -1 }]
  }
}
