import type { Deadline } from '../../src/contract/broker.ts'
import { sleep, type Clock, type Random } from '../../src/contract/clock.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { ByteWriter } from './byte-writer.ts'
import { brokerErrorOf } from './admin-errors.ts'
import type { DriverProducer, Part, PartResult, Told, TopicPartition } from './driver.ts'
import { noSuchTopic, notKnown, notWritten, refusedBy, notARecord, verdictOf } from './errors.ts'
import { ProducerLink, type NoLeader, type ProducerIdentity } from './producer-link.ts'
import type { Clusters } from './cluster.ts'
import type { KafkajsClient } from './options.ts'
import {
  beginPartition,
  beginProduce,
  beginTopic,
  endPartition,
  type PartitionAnswer,
} from './produce-protocol.ts'
import { ProduceRun, type PartRun } from './produce-run.ts'
import { writeBatch, writeCompressedBatch, type BatchCodec } from './batch-writer.ts'
import { Sequences } from './sequences.ts'

/** What a producer needs. */
export interface IdempotentProducerOptions {
  readonly client: KafkajsClient | Clusters
  readonly clock: Clock
  readonly random: Random
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  /** `null`: not compressed. */
  readonly codec: BatchCodec | null
  /** Default: none, and a number of its own. */
  readonly transaction?: ProducerTransaction
}

/** Everything is written within a transaction that somebody else begins and ends. */
export interface ProducerTransaction {
  readonly transactionalId: string
  readonly identity: ProducerIdentity
  /** Connected already, and not closed here. */
  readonly link: ProducerLink
}

/** A node that is silent for that long is asked again, or its successor: the broker knows a batch it has. */
const LONGEST_ANSWER_MS = 10_000
/** The broker gives up waiting for replicas that much before we give up waiting for it. */
const ANSWER_HEADSTART_MS = 500
/** A topic has to be missing for that long before it counts as gone: nodes hear of topics one by one. */
const GONE_AFTER_MS = 1_000

const backoff = exponential({ initialMs: 20, maxMs: 1_000 })

/**
 * An idempotent producer on the connections of a client. kafkajs's own producer resolves for records it never
 * wrote and uses sequence numbers of one batch for another; here one batch has its numbers for ever: it
 * is written again under them until the broker says that it has it, or the deadline passes. A part counts
 * as stored only by an answer that names it.
 */
export class IdempotentProducer implements DriverProducer {
  readonly #options: IdempotentProducerOptions
  readonly #link: ProducerLink
  readonly #sequences = new Sequences()
  readonly #writers: ByteWriter[] = []
  #identity: ProducerIdentity | null = null
  #isUsable = true
  #isClosed = false
  /** The broker asked to be left alone until then. */
  #mutedUntil = 0

  constructor(options: IdempotentProducerOptions) {
    this.#options = options
    const { client, clock, transaction } = options
    this.#link = transaction?.link ?? new ProducerLink(client, clock)
    this.#identity = transaction?.identity ?? null
  }

  get usable(): boolean {
    return this.#isUsable && !this.#isClosed && !this.#sequences.isUsedUp
  }

  async produce(
    parts: readonly Part[],
    deadline: Deadline,
    told?: Told,
  ): Promise<readonly PartResult[]> {
    const run = new ProduceRun(parts, told)
    const { clock } = this.#options
    if (clock.now() < this.#mutedUntil) {
      await sleep(clock, Math.min(this.#mutedUntil, deadline) - clock.now())
    }
    const error = this.#isClosed ? new Error('closed') : await this.#open(run.topics, deadline)
    if (error === null) await this.#settle(run, run.parts, deadline)
    this.#isUsable &&= run.isStored
    if (!this.#isUsable && run.parts.some(({ doubt }) => doubt !== null)) this.#link.cut()
    return run.results((one) => this.#giveUp(one, error))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#options.transaction === undefined) await this.#link.close()
  }

  /** Connects and looks up leaders where that was not done; returns why it cannot. */
  async #open(topics: ReadonlySet<string>, deadline: Deadline): Promise<unknown> {
    const { clock, connectTimeoutMs } = this.#options
    const by = Math.min(deadline, clock.now() + connectTimeoutMs)
    try {
      this.#identity ??= await this.#link.open(topics, by)
      for (const topic of topics) {
        if (!this.#link.knows(topic)) await this.#link.refresh(topics, by)
      }
      return null
    } catch (error) {
      this.#isUsable = false
      return error
    }
  }

  /** Writes the parts, and again those in doubt, until each has an end or the deadline passes. */
  async #settle(
    run: ProduceRun,
    parts: readonly PartRun[],
    deadline: Deadline,
    attempt = 1,
    missingSince = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const { groups, leaderless } = this.#byLeader(parts)
    for (const one of leaderless) this.#noLeader(run, one.run, one.why, missingSince)
    const sending = [...groups].map(([nodeId, group]) => this.#send(run, nodeId, group, deadline))
    // A node that is silent does not hold up the next try with the others.
    const rounds = [Promise.resolve(leaderless.map((one) => one.run)), ...sending].map(
      async (round) => {
        const left = (await round).filter(({ result }) => result === null)
        if (left.length === 0 || !(await this.#pause(attempt, deadline))) return
        const topics = new Set(left.map(({ part }) => part.topic))
        await this.#refresh(topics, deadline)
        const gone = left.some(({ part }) => !this.#link.knows(part.topic))
        const since = gone ? Math.min(missingSince, this.#options.clock.now()) : Infinity
        await this.#settle(run, left, deadline, attempt + 1, since)
      },
    )
    await Promise.all(rounds)
  }

  /** A node that is silent about the leaders is not asked again on that connection. */
  async #refresh(topics: ReadonlySet<string>, deadline: Deadline): Promise<void> {
    const { clock, connectTimeoutMs } = this.#options
    const by = Math.min(deadline, clock.now() + connectTimeoutMs)
    await this.#link.refresh(topics, by).catch(() => this.#link.cut())
  }

  #byLeader(parts: readonly PartRun[]): {
    groups: ReadonlyMap<number, PartRun[]>
    leaderless: readonly { run: PartRun; why: NoLeader }[]
  } {
    const groups = new Map<number, PartRun[]>()
    const leaderless: { run: PartRun; why: NoLeader }[] = []
    for (const run of parts) {
      const leader = this.#link.leaderOf(run.part.topic, run.part.partition)
      if (typeof leader !== 'number') leaderless.push({ run, why: leader })
      else if (groups.has(leader)) groups.get(leader)?.push(run)
      else groups.set(leader, [run])
    }
    return { groups, leaderless }
  }

  /** What was never written goes back; what may have been stored waits for a leader, unless its topic is gone. */
  #noLeader(run: ProduceRun, one: PartRun, why: NoLeader, missingSince: number): void {
    const { topic, partition } = one.part
    const isGone = why === 'no-topic' && this.#options.clock.now() - missingSince >= GONE_AFTER_MS
    if (isGone && one.doubt === null) run.end(one, { status: 'refused', error: noSuchTopic(topic) })
    else if (isGone)
      run.end(one, notKnown('unanswered', one.part, 'its topic is not there any more'))
    else if (one.doubt === null) {
      run.end(one, notWritten(one.part, new Error(`${topic}/${partition}: ${why}`)))
    }
  }

  /** One request to one node; returns its parts. */
  async #send(
    run: ProduceRun,
    nodeId: number,
    group: readonly PartRun[],
    deadline: Deadline,
  ): Promise<readonly PartRun[]> {
    const { clock, connectTimeoutMs, requestTimeoutMs } = this.#options
    const writer = this.#writers.pop() ?? new ByteWriter()
    let unwritable: unknown = null
    const encode = async (waitMs: number): Promise<Buffer> => {
      try {
        return await this.#encode(writer, group, waitMs)
      } catch (error) {
        unwritable = error
        throw error
      }
    }
    try {
      const connectBy = Math.min(deadline, clock.now() + connectTimeoutMs)
      const node = await this.#link.connected(nodeId, connectBy)
      const waitMs = Math.min(requestTimeoutMs, LONGEST_ANSWER_MS, deadline - clock.now())
      if (waitMs <= 0) throw new Error('the deadline passed')
      const answer = await this.#link.produce(node, () => encode(waitMs), clock.now() + waitMs)
      this.#writers.push(writer)
      this.#mutedUntil = clock.now() + answer.throttleMs
      this.#take(run, group, answer.partitions)
    } catch (error) {
      for (const one of group) {
        if (one.sequence === null) run.end(one, notWritten(one.part, error))
        else if (unwritable !== null && one.doubt === null)
          run.end(one, notARecord(one.part, error))
        else one.doubt = { why: textOf(error), cause: error }
      }
    }
    return group
  }

  #encode(writer: ByteWriter, group: readonly PartRun[], waitMs: number): Promise<Buffer> | Buffer {
    const { clock, codec, transaction } = this.#options
    const byTopic = groupBy(group, ({ part }) => part.topic)
    const nowMs = clock.wallMs()
    const timeoutMs = Math.max(1, Math.floor(waitMs - ANSWER_HEADSTART_MS))
    for (const run of group) run.sequence ??= this.#sequences.take(run.part)
    beginProduce(writer, timeoutMs, byTopic.size, transaction?.transactionalId)
    if (codec !== null) return this.#encodeCompressed(writer, byTopic, nowMs, codec)
    for (const [topic, runs] of byTopic) {
      beginTopic(writer, topic, runs.length)
      for (const { part, sequence } of runs) {
        const begun = beginPartition(writer, part.partition)
        writeBatch(writer, part.records, this.#batchIdentity(sequence, nowMs))
        endPartition(writer, begun)
      }
    }
    return writer.written
  }

  async #encodeCompressed(
    writer: ByteWriter,
    byTopic: ReadonlyMap<string, readonly PartRun[]>,
    nowMs: number,
    codec: BatchCodec,
  ): Promise<Buffer> {
    const scratch = new ByteWriter()
    for (const [topic, runs] of byTopic) {
      beginTopic(writer, topic, runs.length)
      for (const { part, sequence } of runs) {
        const begun = beginPartition(writer, part.partition)
        const identity = this.#batchIdentity(sequence, nowMs)
        await writeCompressedBatch(writer, scratch, part.records, identity, codec)
        endPartition(writer, begun)
      }
    }
    return writer.written
  }

  #batchIdentity(sequence: number | null, nowMs: number) {
    const { producerId, producerEpoch } = this.#identity as ProducerIdentity
    const isTransactional = this.#options.transaction !== undefined
    return { producerId, producerEpoch, sequence: sequence ?? 0, nowMs, isTransactional }
  }

  #take(run: ProduceRun, group: readonly PartRun[], answers: readonly PartitionAnswer[]): void {
    const named = new Map(answers.map((answer) => [nameOf(answer), answer]))
    for (const one of group) {
      const answer = named.get(nameOf(one.part))
      if (answer === undefined) {
        run.end(one, notKnown('unanswered', one.part, 'the answer does not name the partition'))
      } else this.#judge(run, one, answer)
    }
  }

  #judge(run: ProduceRun, one: PartRun, { code, baseOffset }: PartitionAnswer): void {
    const verdict = verdictOf(code)
    if (verdict.kind === 'stored') {
      const offset = code === 0 ? String(baseOffset) : null
      run.end(one, { status: 'stored', baseOffset: offset })
    } else if (verdict.kind === 'doubtful') one.doubt ??= { why: verdict.name }
    else if (verdict.kind === 'unknown')
      run.end(one, notKnown('unanswered', one.part, verdict.name))
    else if (one.doubt === null) run.end(one, refusedBy(verdict, one.part))
    else if (!verdict.retryable) {
      // Refused now, and perhaps stored before.
      run.end(one, notKnown('unanswered', one.part, `${one.doubt.why}, then ${verdict.name}`))
    }
  }

  #giveUp({ part, doubt, sequence }: PartRun, error: unknown): PartResult {
    if (doubt !== null) return notKnown('timeout', part, doubt.why, doubt.cause)
    if (sequence !== null) return notKnown('timeout', part, 'no answer by the deadline')
    return (
      refusedAtOpening(part, error) ?? notWritten(part, error ?? new Error('the deadline passed'))
    )
  }

  /** false: there is no time for another try. */
  async #pause(attempt: number, deadline: Deadline): Promise<boolean> {
    const { clock, random } = this.#options
    const waitMs = backoff.delayFor(attempt, random)
    if (this.#isClosed || clock.now() + waitMs >= deadline) return false
    await sleep(clock, waitMs)
    return !this.#isClosed
  }
}

/** The broker gave no number: what it said holds for all that would have been written under it. */
function refusedAtOpening(part: Part, error: unknown): PartResult | null {
  const said = brokerErrorOf(error)
  if (said === null) return null
  const verdict = verdictOf(said.code)
  return verdict.kind === 'refused' ? refusedBy(verdict, part) : null
}

function groupBy<T>(all: readonly T[], of: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const one of all) {
    const group = groups.get(of(one))
    if (group === undefined) groups.set(of(one), [one])
    else group.push(one)
  }
  return groups
}

function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
