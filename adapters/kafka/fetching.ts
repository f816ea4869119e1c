import { type Clock, type Random, sleep } from '../../src/contract/clock.ts'
import { HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import { exponential } from '../../src/policy/backoff.ts'
import { Wake } from '../../src/policy/wake.ts'
import { AnswerError } from './answer-error.ts'
import type { ConsumerCallbacks, GroupSpec, TopicPartition } from './driver.ts'
import type { FetchAnswer, FetchAnswers, FetchPart } from './fetch-protocol.ts'
import { groupError } from './group-errors.ts'
import type { GroupLink } from './group-link.ts'
import { nameOf } from './part-name.ts'
import { ReadingTrouble } from './reading-trouble.ts'
import { readBatches, type Decompress } from './record-batch.ts'

/** What fetching needs. */
export interface FetchingOptions {
  readonly link: GroupLink
  readonly spec: GroupSpec
  readonly clock: Clock
  readonly random: Random
  readonly decompress: Decompress
  readonly listener: Pick<ConsumerCallbacks, 'records' | 'outOfRange' | 'troubled' | 'failed'>
  /** The assignment that what is read belongs to. */
  readonly epoch: () => number
  /** Any request. */
  readonly requestTimeoutMs: number
}

/** A partition that may be read. */
class Reading implements FetchPart {
  readonly topic: string
  readonly partition: number
  /** Where reading goes on; -1: nobody has said yet. */
  offset = -1n
  isPaused = false

  constructor({ topic, partition }: TopicPartition) {
    this.topic = topic
    this.partition = partition
  }
}

/** Kafka's error codes that mean something here. */
const OUT_OF_RANGE = 1
const UNKNOWN_TOPIC = 3
const NOT_ALLOWED = 29

/** A node that says nothing for that long is cut off. */
const LONGEST_ANSWER_MS = 10_000
/** A fetch waits that long at least, even if what was left out of it may come back soon. */
const SHORTEST_WAIT_MS = 20
/** A topic has to be missing for that long before it counts as gone: nodes hear of topics one by one. */
const GONE_AFTER_MS = 3_000
/** Leaders are looked up again after that long without any. */
const LOOK_MS = 1_000

const backoff = exponential({ initialMs: 20, maxMs: 1_000 })

/**
 * Reads the partitions that are ours from their leaders, one request at a time per node, so that a slow
 * or hanging node delays its own partitions alone. What is paused is left out of the next request. An
 * error of one partition is no matter of the others of its answer.
 */
export class Fetching {
  readonly #options: FetchingOptions
  readonly #readings = new Map<string, Reading>()
  readonly #nodes = new Map<number, Wake>()
  readonly #troubles: ReadingTrouble
  readonly #goneSince = new Map<string, number>()
  #looking: Promise<void> | null = null
  /** Something was left out then that may be wanted again soon. */
  #leftOutAt = Number.NEGATIVE_INFINITY
  #turn = 0
  #isClosed = false

  constructor(options: FetchingOptions) {
    this.#options = options
    const { clock, listener, epoch } = options
    this.#troubles = new ReadingTrouble(clock, (trouble) => listener.troubled(epoch(), trouble))
  }

  /** These and no others may be read; a new one after its first `seek`. */
  allow(parts: readonly TopicPartition[]): void {
    const before = new Map(this.#readings)
    this.#readings.clear()
    for (const part of parts) {
      const name = nameOf(part)
      this.#readings.set(name, before.get(name) ?? new Reading(part))
    }
    this.#troubles.keep(this.#readings)
    this.#begin()
  }

  pause(parts: readonly TopicPartition[]): void {
    for (const part of parts) {
      const reading = this.#readings.get(nameOf(part))
      if (reading === undefined) continue
      reading.isPaused = true
      this.#troubles.over(reading)
    }
    this.#leftOutAt = this.#options.clock.now()
  }

  resume(parts: readonly TopicPartition[]): void {
    for (const part of parts) {
      const reading = this.#readings.get(nameOf(part))
      if (reading !== undefined) reading.isPaused = false
    }
    this.#begin()
  }

  seek(part: TopicPartition, offset: bigint): void {
    const reading = this.#readings.get(nameOf(part))
    if (reading !== undefined) reading.offset = offset
    this.#begin()
  }

  /** Nothing is handed over any more. */
  close(): void {
    this.#isClosed = true
    this.#readings.clear()
    this.#troubles.keep(this.#readings)
    for (const wake of this.#nodes.values()) wake.ring()
  }

  /** Every leader of something has its loop, and every loop looks again. */
  #begin(): void {
    if (this.#isClosed) return
    let hasAll = true
    for (const reading of this.#readings.values()) {
      const node = this.#leaderOf(reading)
      if (node < 0) hasAll = false
      else if (!this.#nodes.has(node)) {
        this.#read(node).catch((error: unknown) => this.#fail(error))
      }
    }
    for (const wake of this.#nodes.values()) wake.ring()
    if (!hasAll) this.#look()
  }

  #leaderOf({ topic, partition }: TopicPartition): number {
    return this.#options.link.leadersOf(topic)?.get(partition) ?? -1
  }

  /** Reads from one node as long as it leads something of ours. */
  async #read(node: number): Promise<void> {
    const { clock, random } = this.#options
    const wake = new Wake(clock)
    this.#nodes.set(node, wake)
    for (let failures = 0; this.#leads(node);) {
      const parts = this.#wanted(node)
      if (parts.length === 0) {
        await wake.sleep(LOOK_MS)
        continue
      }
      const isFine = await this.#fetch(node, parts)
      failures = isFine ? 0 : failures + 1
      // Not on the wake: what rings it does not make the node better.
      if (!isFine && !this.#isClosed) await sleep(clock, backoff.delayFor(failures, random))
    }
    this.#nodes.delete(node)
    this.#begin()
  }

  #leads(node: number): boolean {
    if (this.#isClosed) return false
    for (const reading of this.#readings.values()) if (this.#leaderOf(reading) === node) return true
    return false
  }

  /** What to ask the node for, each time beginning with another one: the answer may be full before the last. */
  #wanted(node: number): readonly Reading[] {
    const wanted: Reading[] = []
    for (const reading of this.#readings.values()) {
      const isReadable = !reading.isPaused && reading.offset >= 0n
      if (isReadable && this.#leaderOf(reading) === node) wanted.push(reading)
    }
    const first = this.#turn++ % Math.max(1, wanted.length)
    return first === 0 ? wanted : [...wanted.slice(first), ...wanted.slice(0, first)]
  }

  /** false: something went wrong that may pass. */
  async #fetch(node: number, readings: readonly Reading[]): Promise<boolean> {
    const { link, spec, clock, requestTimeoutMs } = this.#options
    const parts = readings.map(({ topic, partition, offset }) => ({ topic, partition, offset }))
    const limits = { ...spec, maxWaitMs: this.#waitMs() }
    const askedAt = clock.now()
    const deadline = askedAt + limits.maxWaitMs + Math.min(requestTimeoutMs, LONGEST_ANSWER_MS)
    const taken = new Set<string>()
    try {
      const answers = await link.fetch(node, parts, limits, deadline)
      const isFine = await this.#takeAll(answers, parts, askedAt, taken)
      // The broker would not answer before that.
      if (answers.throttleMs > 0) await sleep(clock, answers.throttleMs)
      return isFine
    } catch (error) {
      if (this.#isClosed) return true
      if (isHoldfastError(error) && error.code === 'timeout') link.cut(node)
      else if (isFatal(error)) this.#fail(error)
      const why = `its leader, node ${node}: ${textOf(error)}`
      for (const one of readings) if (!taken.has(nameOf(one))) this.#failed(one, askedAt, why)
      this.#look()
      return false
    }
  }

  async #takeAll(
    { error, parts }: FetchAnswers,
    asked: readonly FetchPart[],
    askedAt: number,
    taken: Set<string>,
  ): Promise<boolean> {
    if (error !== 0) throw new HoldfastError('unavailable', new AnswerError(error).message)
    const offsets = new Map(asked.map((part) => [nameOf(part), part.offset]))
    let isFine = true
    for (const answer of parts) {
      const name = nameOf(answer)
      isFine = (await this.#take(name, answer, offsets.get(name), askedAt)) && isFine
      taken.add(name)
    }
    return isFine
  }

  /** While something waits to be let in again, a fetch that finds nothing must not keep it out for long. */
  #waitMs(): number {
    const { clock, spec } = this.#options
    const sinceMs = clock.now() - this.#leftOutAt
    return Math.round(Math.min(spec.maxWaitMs, Math.max(SHORTEST_WAIT_MS, sinceMs / 4)))
  }

  async #take(
    name: string,
    answer: FetchAnswer,
    from: bigint | undefined,
    askedAt: number,
  ): Promise<boolean> {
    const { topic, error, records, highWatermark, aborted } = answer
    const reading = this.#readings.get(name)
    // It was given up, or somebody decided to go on elsewhere.
    if (reading === undefined || from === undefined || reading.offset !== from) return true
    if (error !== 0) return this.#trouble(reading, error, askedAt)
    this.#troubles.over(reading)
    this.#goneSince.delete(topic)
    if (records.length === 0) return true
    const { decompress, listener, epoch } = this.#options
    const read = await readBatches(records, from, aborted, decompress)
    const isOurs = this.#readings.get(name) === reading && reading.offset === from
    if (read.next === null || !isOurs) return true
    reading.offset = read.next
    listener.records(epoch(), reading, read.records, read.next, highWatermark)
    return true
  }

  async #trouble(reading: Reading, error: number, askedAt: number): Promise<boolean> {
    const { topic } = reading
    if (error !== OUT_OF_RANGE) this.#failed(reading, askedAt, new AnswerError(error).message)
    switch (error) {
      case OUT_OF_RANGE:
        return this.#outOfRange(reading)
      case UNKNOWN_TOPIC: {
        const { clock } = this.#options
        const since = this.#goneSince.get(topic) ?? clock.now()
        this.#goneSince.set(topic, since)
        if (clock.now() - since >= GONE_AFTER_MS) this.#fail(gone(topic))
        break
      }
      case NOT_ALLOWED:
        this.#fail(new HoldfastError('rejected', `reading topic "${topic}" is not allowed`))
        break
      default:
    }
    this.#look()
    return false
  }

  /** Of what is still to be read. */
  #failed(reading: Reading, since: number, why: string): void {
    const isWanted = this.#readings.get(nameOf(reading)) === reading && !reading.isPaused
    if (isWanted) this.#troubles.failed(reading, since, why)
  }

  /** Reading waits for a decision: to begin somewhere else in silence would skip or repeat unseen. */
  async #outOfRange(reading: Reading): Promise<boolean> {
    const { link, clock, listener, epoch, requestTimeoutMs } = this.#options
    const asked = reading.offset
    const log = await link.logOf(reading, clock.now() + requestTimeoutMs)
    const isOurs = this.#readings.get(nameOf(reading)) === reading && reading.offset === asked
    if (!isOurs) return true
    // It was written or deleted meanwhile.
    if (asked >= log.begin && asked <= log.end) return false
    reading.offset = -1n
    listener.outOfRange(epoch(), reading, asked, log)
    return true
  }

  #fail(error: unknown): void {
    if (this.#isClosed) return
    this.close()
    this.#options.listener.failed(groupError('reading', error))
  }

  /** Looks for leaders, once at a time, and again as long as one is missing. */
  #look(): void {
    if (this.#looking !== null || this.#isClosed) return
    this.#looking = this.#lookUp().finally(() => {
      this.#looking = null
      this.#begin()
    })
  }

  async #lookUp(): Promise<void> {
    const { link, clock, spec, requestTimeoutMs } = this.#options
    const within = Math.min(requestTimeoutMs, LONGEST_ANSWER_MS)
    const askedAt = clock.now()
    // Topics that were subscribed to later are among what is read.
    const read = [...this.#readings.values()].map(({ topic }) => topic)
    const topics = [...new Set([...spec.topics, ...read])]
    await link.refresh(topics, clock.now() + within).catch(() => undefined)
    const missing = [...this.#readings.values()].filter((one) => this.#leaderOf(one) < 0)
    for (const one of missing) {
      this.#failed(one, askedAt, 'it has no leader')
      if (link.leadersOf(one.topic) === null) await this.#trouble(one, UNKNOWN_TOPIC, askedAt)
    }
    for (const one of this.#readings.values()) {
      // Nobody reads it before somebody said where.
      if (one.offset < 0n && this.#leaderOf(one) >= 0) this.#troubles.over(one)
    }
    if (missing.length > 0 && !this.#isClosed) await sleep(clock, LOOK_MS / 4)
  }
}

function isFatal(error: unknown): boolean {
  if (!isHoldfastError(error)) return false
  return error.code === 'missing-package' || error.code === 'codec' || error.code === 'capability'
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function gone(topic: string): HoldfastError {
  return new HoldfastError('destination-gone', `topic "${topic}" is not there any more`, { topic })
}
