import { randomBytes } from 'node:crypto'

import { gunzipSync } from 'node:zlib'

import type {
  ConsumerCallbacks,
  DriverConsumer,
  FetchedRecord,
  GroupSpec,
  LogRange,
  TopicPartition,
} from '../../../adapters/kafka/driver.ts'
import { joinGroup } from '../../../adapters/kafka/group-consumer.ts'
import { nameOf } from '../../../adapters/kafka/part-name.ts'
import { resolveOptions } from '../../../adapters/kafka/options.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import type { HoldfastError } from '../../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../../src/contract/events.ts'
import { eventually } from '../../conformance/wait.ts'
import { plainKafka } from '../../brokers/kafka-topics.ts'
import { clientUnderTest } from './client-under-test.ts'

export const LIMIT_MS = 30_000

/** A group of short times, so that a test sees them pass. */
export function specOf(topics: readonly string[], given: Partial<GroupSpec> = {}): GroupSpec {
  return {
    groupId: `g-${randomBytes(4).toString('hex')}`,
    topics,
    sessionTimeoutMs: 6_000,
    rebalanceTimeoutMs: 6_000,
    heartbeatIntervalMs: 200,
    maxWaitMs: 200,
    maxBytes: 10_000_000,
    maxBytesPerPartition: 1_000_000,
    instanceId: null,
    ...given,
  }
}

/** A member of a group that writes down what it is told, and reads what is its own from the start. */
export class TestMember implements ConsumerCallbacks {
  readonly told: string[] = []
  readonly read: { readonly name: string; readonly record: FetchedRecord }[] = []
  readonly events: HoldfastEvent[] = []
  readonly failures: HoldfastError[] = []
  readonly nexts: Map<string, bigint> = new Map()
  epoch = 0
  parts: readonly TopicPartition[] = []
  consumer: DriverConsumer | null = null
  /** What is done before partitions are given up. */
  onYielding: (parts: readonly TopicPartition[]) => Promise<void> = () => Promise.resolve()
  onRevoking: () => Promise<void> = () => Promise.resolve()
  onOutOfRange: (part: TopicPartition, log: LogRange) => void = () => undefined
  /** Where a new partition is read from; `null`: not at all. */
  start: bigint | null = 0n
  #known = new Set<string>()

  static async join(
    brokers: readonly string[],
    spec: GroupSpec,
    set: (member: TestMember) => void = () => undefined,
  ): Promise<TestMember> {
    const member = new TestMember()
    set(member)
    const times = { brokers, requestTimeoutMs: 5_000, connectTimeoutMs: 2_000 }
    const options = resolveOptions(times)
    const emit = Object.assign((event: HoldfastEvent) => void member.events.push(event), {
      wants: () => true,
    })
    member.consumer = await joinGroup(
      {
        client: await clientUnderTest(times),
        clock: systemClock,
        random: systemRandom,
        emit,
        decompress: async (_, bytes) => gunzipSync(bytes),
        requestTimeoutMs: options.requestTimeoutMs,
      },
      spec,
      member,
      systemClock.now() + LIMIT_MS,
    )
    member.#seekNew()
    return member
  }

  get names(): string[] {
    return this.parts.map(nameOf).sort()
  }

  get texts(): string[] {
    return this.read.map(({ record }) => record.value?.toString() ?? 'null')
  }

  assigned(epoch: number, parts: readonly TopicPartition[]): void {
    this.epoch = epoch
    this.parts = parts
    this.told.push(`assigned ${epoch}: ${this.names.join(' ')}`)
    this.#seekNew()
  }

  async revoking(epoch: number): Promise<void> {
    this.told.push(`revoking ${epoch}`)
    await this.onRevoking()
  }

  async yielding(epoch: number, parts: readonly TopicPartition[]): Promise<void> {
    this.told.push(`yielding ${epoch}: ${parts.map(nameOf).sort().join(' ')}`)
    await this.onYielding(parts)
    for (const part of parts) this.#known.delete(nameOf(part))
    this.told.push(`yielded ${epoch}`)
  }

  lost(epoch: number): void {
    this.told.push(`lost ${epoch}`)
    this.parts = []
    this.#known.clear()
  }

  records(
    _epoch: number,
    part: TopicPartition,
    records: readonly FetchedRecord[],
    next: bigint,
  ): void {
    const name = nameOf(part)
    for (const record of records) this.read.push({ name, record })
    this.nexts.set(name, next)
  }

  outOfRange(_epoch: number, part: TopicPartition, asked: bigint, log: LogRange): void {
    this.told.push(`out of range ${nameOf(part)}: ${asked} of ${log.begin} to ${log.end}`)
    this.onOutOfRange(part, log)
  }

  troubled(_epoch: number, trouble: string | null): void {
    this.told.push(trouble ?? 'all is read')
  }

  failed(error: HoldfastError): void {
    this.failures.push(error)
  }

  has(count: number): Promise<void> {
    return eventually(
      systemClock,
      LIMIT_MS,
      () => `${this.read.length} of ${count} records came; ${this.told.join('; ')}`,
      () => this.read.length >= count,
    )
  }

  owns(...names: string[]): Promise<void> {
    return eventually(
      systemClock,
      LIMIT_MS,
      () => `owns ${this.names.join(' ')} instead of ${names.join(' ')}; ${this.told.join('; ')}`,
      () => this.names.join() === [...names].sort().join(),
    )
  }

  was(text: string): Promise<void> {
    return eventually(
      systemClock,
      LIMIT_MS,
      () => `nothing was "${text}"; ${this.told.join('; ')}`,
      () => this.told.some((one) => one.startsWith(text)),
    )
  }

  commit(
    offset: bigint,
    metadata: string | null = null,
    epoch: number = this.epoch,
  ): Promise<void> {
    const offsets = this.parts.map((part) => ({ ...part, offset, metadata }))
    return this.consumer!.commit(epoch, offsets, systemClock.now() + LIMIT_MS)
  }

  async leave(): Promise<void> {
    await this.consumer?.close(systemClock.now() + LIMIT_MS)
  }

  #seekNew(): void {
    const { consumer, start } = this
    if (consumer === null || start === null) return
    for (const part of this.parts) {
      if (this.#known.has(nameOf(part))) continue
      this.#known.add(nameOf(part))
      consumer.seek(part, start)
    }
  }
}

/** Where a message says that it goes. */
const createPartitioner =
  () =>
  ({ message }: { readonly message: { readonly partition?: number } }): number =>
    message.partition ?? 0

/** Writes records by a plain client; one partition at a time, since kafkajs repeats or forgets some of several. */
export async function publish(
  brokers: readonly string[],
  topic: string,
  records: readonly {
    readonly value: string | null
    readonly key?: string
    readonly partition?: number
  }[],
): Promise<void> {
  const producer = plainKafka(brokers).producer({ createPartitioner, idempotent: true })
  await producer.connect()
  for (const number of new Set(records.map(({ partition = 0 }) => partition))) {
    const messages = records
      .filter(({ partition = 0 }) => partition === number)
      .map(({ value, key }) => {
        return { value, partition: number, ...(key === undefined ? {} : { key }) }
      })
    await producer.send({ topic, messages, acks: -1 })
  }
  await producer.disconnect()
}

export function topicName(): string {
  return `t-${randomBytes(4).toString('hex')}`
}
