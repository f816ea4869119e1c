import type { Inspector } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { Destination, Envelope } from '../../src/contract/message.ts'
import type { DriverAdmin, FetchedRecord, TopicPartition } from './driver.ts'
import { decodeProgress, type Progress } from './offset-metadata.ts'
import type { TopicTable } from './topics.ts'

/** What an inspector reaches the cluster through; throws while the broker is not open. */
export interface Insight {
  readonly admin: Pick<DriverAdmin, 'partitions' | 'offsets' | 'groupOffsets' | 'read'>
  readonly topics: TopicTable
  /** A record as a delivery would show it. */
  readonly open: (record: FetchedRecord, at: TopicPartition, to: Destination) => Envelope
}

/** Unfinished records of one partition. */
interface Backlog extends TopicPartition {
  /** The first that is not finished. */
  readonly from: bigint
  readonly end: bigint
  /** What is finished beyond `from`. */
  readonly progress: Progress | null
}

/** Bytes that one look asks for at a time, and how often it asks for one partition. */
const READ_BYTES = 1_048_576
const MOST_READS = 50
/** Messages that one look takes at most. */
const MOST_MESSAGES = 10_000

/**
 * Looks into topics, without joining or making a group. Depth counts offsets: places that compaction or a
 * transaction left empty count until the group is past them. Dead-letter topics count what they keep.
 */
export class KafkaInspector implements Inspector {
  readonly #insight: () => Insight

  constructor(insight: () => Insight) {
    this.#insight = insight
  }

  async depth(destination: Destination): Promise<number> {
    const backlogs = await this.#backlogs(destination)
    return backlogs.reduce((sum, backlog) => sum + unfinished(backlog), 0)
  }

  /** The oldest by their timestamps; of a topic those of all its groups that were declared here. */
  async browse(destination: Destination, limit: number): Promise<readonly Envelope[]> {
    const { open } = this.#insight()
    const most = Math.min(limit, MOST_MESSAGES)
    const looks = (await this.#backlogs(destination)).map(async (backlog) => {
      const records = await this.#read(backlog, most)
      return records.map((record) => ({ record, at: backlog }))
    })
    return (await Promise.all(looks))
      .flat()
      .sort((one, other) => one.record.timestampMs - other.record.timestampMs)
      .slice(0, most)
      .map(({ record, at }) => open(record, at, destination))
  }

  async #read(backlog: Backlog, limit: number): Promise<readonly FetchedRecord[]> {
    const { admin } = this.#insight()
    const found: FetchedRecord[] = []
    let { from } = backlog
    for (let reads = 0; reads < MOST_READS && from < backlog.end; reads++) {
      const records = await admin.read(backlog, from, READ_BYTES)
      found.push(...records.filter(({ offset }) => !isFinished(offset, backlog)))
      const last = records.at(-1)
      if (last === undefined || found.length >= limit) break
      from = last.offset + 1n
    }
    return found.slice(0, limit)
  }

  async #backlogs(to: Destination): Promise<readonly Backlog[]> {
    const { topics } = this.#insight()
    if (to.kind === 'reply') {
      throw new HoldfastError('topology', 'Kafka has no destination for replies')
    }
    const names = topics.names(to.topic)
    if (to.kind === 'dead') return this.#kept(names.dead(to.group))
    const groups = to.kind === 'topic' ? topics.groups(to.topic) : [to.group]
    const found = groups.map(async (group) => {
      const groupId = names.groupId(group)
      const own = await this.#topicsOf(to, group)
      return (await Promise.all(own.map((topic) => this.#behind(groupId, topic)))).flat()
    })
    return (await Promise.all(found)).flat()
  }

  /** Kafka topics in which a group's share of a destination lies. */
  async #topicsOf(to: Destination, group: string): Promise<readonly string[]> {
    const { topics, admin } = this.#insight()
    if (to.kind === 'reply' || to.kind === 'dead') return []
    const names = topics.names(to.topic)
    if (to.kind === 'group' && to.delayMs > 0) return [names.retry(group, to.delayMs)]
    if (to.kind === 'topic') {
      const retries = await topics.retryTopics(to.topic, group)
      return [names.topic, ...retries.map(({ topic }) => topic)]
    }
    // Replays wait there, and a group that was never declared here has none.
    const replays = names.retry(group, 0)
    return (await admin.partitions(replays)) === null ? [names.topic] : [names.topic, replays]
  }

  async #behind(groupId: string, topic: string): Promise<readonly Backlog[]> {
    const { admin } = this.#insight()
    const kept = await this.#kept(topic)
    const committed = await admin.groupOffsets(groupId, topic)
    return kept.map((backlog) => {
      const own = committed.find(({ partition }) => partition === backlog.partition)
      const offset = own?.offset ?? null
      if (own === undefined || offset === null || offset < backlog.from) return backlog
      return { ...backlog, from: offset, progress: decodeProgress(offset, own.metadata) }
    })
  }

  /** Everything that a topic keeps. */
  async #kept(topic: string): Promise<readonly Backlog[]> {
    const { admin } = this.#insight()
    const begins = await admin.offsets(topic, 'earliest')
    const ends = await admin.offsets(topic, 'latest')
    return begins.map(({ partition, offset: from }) => {
      const end = ends.find((one) => one.partition === partition)?.offset ?? from
      return { topic, partition, from, end, progress: null }
    })
  }
}

function unfinished({ from, end, progress }: Backlog): number {
  const finished = progress === null ? 0 : Math.max(0, progress.doneTo - progress.open.length)
  return Math.max(0, Number(end - from) - finished)
}

function isFinished(offset: bigint, { from, progress }: Backlog): boolean {
  if (progress === null) return false
  const place = Number(offset - from)
  return place < progress.doneTo && !progress.open.includes(place)
}
