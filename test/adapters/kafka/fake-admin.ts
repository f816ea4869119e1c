import type {
  BrokerDescription,
  CommittedOffset,
  DriverAdmin,
  FetchedRecord,
  NewTopic,
  PartitionInfo,
  PartitionOffset,
  TopicPartition,
} from '../../../adapters/kafka/driver.ts'
import { HoldfastError } from '../../../src/contract/errors.ts'

/** A topic of the fake cluster; a test may change anything of it. */
export interface FakeTopic {
  partitions: PartitionInfo[]
  config: Record<string, string>
  /** First and next offset per partition. */
  logs: { begin: bigint; end: bigint; records: FetchedRecord[] }[]
}

interface Committed {
  readonly offset: bigint
  readonly metadata: string | null
}

/** Settings that a broker adds to a topic that was made without. */
const DEFAULTS: Readonly<Record<string, string>> = {
  'cleanup.policy': 'delete',
  'retention.ms': '604800000',
  'max.message.bytes': '1048588',
  'min.insync.replicas': '1',
  'unclean.leader.election.enable': 'false',
  'message.timestamp.type': 'CreateTime',
}

/** A cluster that a test sets up and looks into; answers at once. */
export class FakeAdmin implements DriverAdmin {
  readonly made: string[] = []
  readonly known: Map<string, FakeTopic> = new Map()
  readonly committed: Map<string, Map<string, Committed>> = new Map()
  /** Groups that have members. */
  readonly busy: Set<string> = new Set()
  /** What this user may not do: `describe`, `broker`. */
  readonly forbidden: Set<string> = new Set()
  brokers: number[] = [1, 2, 3]
  config: Record<string, string> = { 'num.partitions': '4', 'auto.create.topics.enable': 'false' }
  /** Called before each answer, with what was asked. */
  before: (asked: string) => void = () => undefined

  topic(name: string): FakeTopic {
    const found = this.known.get(name)
    if (found === undefined) throw new Error(`the fake cluster has no topic ${name}`)
    return found
  }

  add(name: string, { partitions, replication, config }: NewTopic): FakeTopic {
    const replicas = this.brokers.slice(0, replication)
    const topic: FakeTopic = {
      partitions: Array.from({ length: partitions }, (_, partition) => ({
        partition,
        leader: replicas[0] ?? null,
        replicas,
        isr: replicas,
      })),
      config: { ...DEFAULTS, ...config },
      logs: Array.from({ length: partitions }, () => ({ begin: 0n, end: 0n, records: [] })),
    }
    this.known.set(name, topic)
    return topic
  }

  async ping(): Promise<void> {
    this.before('ping')
  }

  async partitions(topic: string): Promise<readonly PartitionInfo[] | null> {
    this.before(`partitions ${topic}`)
    return this.known.get(topic)?.partitions ?? null
  }

  async topics(): Promise<readonly string[]> {
    this.before('topics')
    return [...this.known.keys()]
  }

  async createTopic(name: string, topic: NewTopic): Promise<'created' | 'exists'> {
    this.before(`create ${name}`)
    if (this.known.has(name)) return 'exists'
    this.made.push(name)
    this.add(name, topic)
    return 'created'
  }

  async describeTopic(name: string): Promise<Readonly<Record<string, string>>> {
    this.before(`describe ${name}`)
    if (this.forbidden.has('describe')) throw new HoldfastError('topology', 'not allowed')
    return this.topic(name).config
  }

  async describeBroker(nodeId?: number): Promise<BrokerDescription> {
    this.before(`broker ${nodeId ?? ''}`)
    const config = this.forbidden.has('broker') ? {} : this.config
    return { brokers: this.brokers, controller: this.brokers[0] ?? null, config }
  }

  async offsets(topic: string, at: 'earliest' | 'latest'): Promise<readonly PartitionOffset[]> {
    this.before(`${at} ${topic}`)
    return this.topic(topic).logs.map(({ begin, end }, partition) => ({
      partition,
      offset: at === 'earliest' ? begin : end,
    }))
  }

  async groupOffsets(groupId: string, topic: string): Promise<readonly CommittedOffset[]> {
    this.before(`committed ${groupId}`)
    const logs = this.known.get(topic)?.logs ?? []
    return logs.map((_, partition) => {
      const found = this.committed.get(groupId)?.get(`${topic}/${partition}`)
      return { topic, partition, ...(found ?? { offset: null, metadata: null }) }
    })
  }

  async setGroupOffsets(
    groupId: string,
    topic: string,
    offsets: readonly PartitionOffset[],
  ): Promise<void> {
    this.before(`commit ${groupId}`)
    if (this.busy.has(groupId)) throw new HoldfastError('busy', 'the group has members')
    const group = this.committed.get(groupId) ?? new Map<string, Committed>()
    for (const { partition, offset, metadata = null } of offsets) {
      group.set(`${topic}/${partition}`, { offset, metadata })
    }
    this.committed.set(groupId, group)
  }

  async deleteTopic(name: string): Promise<void> {
    this.known.delete(name)
  }

  async read(
    { topic, partition }: TopicPartition,
    from: bigint,
    maxBytes: number,
  ): Promise<readonly FetchedRecord[]> {
    this.before(`read ${topic}/${partition} ${from}`)
    const log = this.topic(topic).logs[partition]
    const found: FetchedRecord[] = []
    let bytes = 0
    for (const record of log?.records ?? []) {
      bytes += record.value?.length ?? 0
      if (record.offset >= from && (found.length === 0 || bytes <= maxBytes)) found.push(record)
    }
    return found
  }

  /** Offsets of a group by partition; `null`: none. */
  offsetsOf(groupId: string, topic: string): (bigint | null)[] {
    const logs = this.topic(topic).logs
    return logs.map(
      (_, partition) => this.committed.get(groupId)?.get(`${topic}/${partition}`)?.offset ?? null,
    )
  }
}
