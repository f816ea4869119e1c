import { isUtf8 } from 'node:buffer'

import type { Clock, Random } from '../../src/contract/clock.ts'
import type { UnroutableError } from '../../src/contract/errors.ts'
import { partitionOf } from '../../src/contract/partition.ts'
import type { TopicTopology } from '../../src/contract/topology.ts'
import type { MappedTopic } from './mapping.ts'
import { TopicNames } from './names-of.ts'
import type { Resolved } from './options.ts'

/** What is known of topics. Asking never throws: an unknown topic is taken for one without partitions and order. */
export interface Topics {
  of(topic: string): TopicPlan
}

/** Where messages of one topic go and are read. */
export interface TopicPlan {
  readonly topic: string
  readonly exchange: string
  /** `null`: one queue per group. */
  readonly partitions: number | null
  /** Somebody said how many partitions there are, or they were found; else there may be some. */
  readonly isKnown: boolean
  /** Its group queues have a single active consumer each. */
  readonly ordered: boolean
  /**
   * The partition's number; without partitions the key when it fits a routing key, else ''. So it is too
   * for a number while nobody knows whether there are partitions: it must not choose one of them.
   */
  routingKey(key: Uint8Array | null): string
  /** One, or one per partition. */
  queues(group: string): readonly string[]
  /** Where one group's copy of a message with that key belongs. */
  queueFor(group: string, key: Uint8Array | null): string
  /** Exchange of the level that is the delay or the next one above. */
  retry(group: string, delayMs: number): { readonly exchange: string; readonly levelMs: number }
  dead(group: string): string
  /** Holds no messages: those who share the group's partitions consume it to be counted; see `Members`. */
  members(group: string): string
  /** Its queues are declared by us, as the options say; mapped ones are as they are. */
  isOurs(group: string): boolean
  /** It was declared here as a quorum queue, and is one. */
  isQuorum(queue: string): boolean
  /** Set while a binding is known to be missing: publishes to the topic are refused with it. */
  readonly unbound: UnroutableError | null
}

/** Longest short string of AMQP, which a routing key is. */
const LONGEST_ROUTING_KEY = 255

/** Plans kept of topics that nobody declared here; with `topology: 'none'` those are all. */
const MOST_GUESSED = 1_000

/** The plans of all topics of which something is known here; those of others are made as they are asked for. */
export class TopicTable implements Topics {
  readonly #options: Pick<Resolved, 'prefix' | 'map'>
  readonly #spread: Spread
  readonly #kept = new Map<string, Plan>()
  readonly #guessed = new Map<string, Plan>()

  constructor(options: Pick<Resolved, 'prefix' | 'map'>, clock: Clock, random: Random) {
    this.#options = options
    this.#spread = new Spread(clock, random)
  }

  of(topic: string): Plan {
    return this.#kept.get(topic) ?? this.#guessed.get(topic) ?? this.#guess(topic)
  }

  /** Learns how a topic is laid out; called before anything of it is declared. */
  declare(topology: TopicTopology): Plan {
    const plan = this.keep(topology.name)
    plan.learn(topology)
    return plan
  }

  /** The plan, for those who learn something of the topic: it is not forgotten any more. */
  keep(topic: string): Plan {
    const plan = this.of(topic)
    this.#kept.set(topic, plan)
    this.#guessed.delete(topic)
    return plan
  }

  #guess(topic: string): Plan {
    if (this.#guessed.size >= MOST_GUESSED) this.#guessed.clear()
    const plan = this.#planOf(topic)
    this.#guessed.set(topic, plan)
    return plan
  }

  #planOf(topic: string): Plan {
    const names = new TopicNames(this.#options.prefix, topic)
    return new Plan(topic, names, this.#options.map.get(topic) ?? null, this.#spread)
  }
}

/** One topic's plan; grows with what is declared, never shrinks. */
export class Plan implements TopicPlan {
  readonly topic: string
  readonly exchange: string
  readonly names: TopicNames
  readonly map: MappedTopic | null
  readonly #spread: Spread
  readonly #groups = new Set<string>()
  readonly #queues = new Map<string, readonly string[]>()
  #partitionKeys: readonly string[] | null = null
  #isKnown = false
  #ascending: readonly number[] = []
  #ordered = false
  #unbound: UnroutableError | null = null
  /** Queues of ours that are quorum queues for certain. */
  readonly quorum: Set<string> = new Set()
  /** Queues of ours that were found without a single active consumer, although the topic is ordered. */
  readonly shared: Set<string> = new Set()

  constructor(topic: string, names: TopicNames, map: MappedTopic | null, spread: Spread) {
    this.topic = topic
    this.names = names
    this.map = map
    this.exchange = map?.exchange ?? names.exchange
    this.#spread = spread
  }

  get partitions(): number | null {
    return this.#partitionKeys?.length ?? null
  }

  get isKnown(): boolean {
    return this.#isKnown || this.map !== null
  }

  get ordered(): boolean {
    return this.#ordered
  }

  get unbound(): UnroutableError | null {
    return this.#unbound
  }

  set unbound(error: UnroutableError | null) {
    this.#unbound = error
  }

  /** Retry levels declared by anybody here, ascending. */
  get levelsMs(): readonly number[] {
    return this.#ascending
  }

  /** Groups declared by anybody here; with the first of them the number of partitions is settled. */
  get groups(): ReadonlySet<string> {
    return this.#groups
  }

  /** What is declared. */
  learn(topology: TopicTopology): void {
    for (const group of topology.groups) this.#groups.add(group)
    this.tell(topology)
    if (topology.groups.length > 0) this.settle(topology.partitions)
    const all = new Set([...this.#ascending, ...topology.retryLevelsMs])
    this.#ascending = [...all].sort((one, other) => one - other)
  }

  /** What is said without anybody having looked. Who names no number of partitions says nothing of it. */
  tell({ partitions, ordering }: Pick<TopicTopology, 'partitions' | 'ordering'>): void {
    this.#ordered ||= ordering !== 'none'
    if (partitions !== null) this.settle(partitions)
  }

  settle(partitions: number | null): void {
    if (this.#isKnown && this.partitions === partitions) return
    this.#isKnown = true
    this.#partitionKeys =
      partitions === null ? null : Array.from({ length: partitions }, (_, index) => String(index))
    this.#queues.clear()
  }

  routingKey(key: Uint8Array | null): string {
    const mapped = this.map?.routingKey
    if (mapped !== undefined) return mapped
    const partitions = this.#partitionKeys
    if (partitions !== null) return partitions[this.#partition(key, partitions.length)] as string
    const text = key === null ? '' : textKey(key)
    return this.isKnown || !isNumber(text) ? text : ''
  }

  queues(group: string): readonly string[] {
    let queues = this.#queues.get(group)
    if (queues === undefined) {
      queues = this.#queuesOf(group)
      this.#queues.set(group, queues)
    }
    return queues
  }

  queueFor(group: string, key: Uint8Array | null): string {
    const queues = this.queues(group)
    return queues[queues.length === 1 ? 0 : this.#partition(key, queues.length)] as string
  }

  retry(group: string, delayMs: number): { readonly exchange: string; readonly levelMs: number } {
    // Above the last level, or of a topic not known here: the very delay, which may not exist, but is never early.
    const levelMs = this.#ascending.find((level) => level >= delayMs) ?? delayMs
    return { exchange: this.names.retry(group, levelMs), levelMs }
  }

  dead(group: string): string {
    return this.names.dead(group)
  }

  members(group: string): string {
    return this.names.members(group)
  }

  isOurs(group: string): boolean {
    return this.map?.groups?.[group] === undefined
  }

  isQuorum(queue: string): boolean {
    return this.quorum.has(queue)
  }

  #queuesOf(group: string): readonly string[] {
    const mapped = this.map?.groups?.[group]?.queue
    if (mapped !== undefined) return [mapped]
    if (this.#partitionKeys === null) return [this.names.queue(group)]
    return this.#partitionKeys.map((_, index) => this.names.partition(group, index))
  }

  #partition(key: Uint8Array | null, partitions: number): number {
    return key === null ? this.#spread.next(partitions) : partitionOf(key, partitions)
  }
}

/** Where messages without a key go: one partition for a burst, so that it stays together, then another. */
class Spread {
  readonly #clock: Clock
  readonly #random: Random
  #chosen: number | null = null

  constructor(clock: Clock, random: Random) {
    this.#clock = clock
    this.#random = random
  }

  next(partitions: number): number {
    if (this.#chosen === null) {
      this.#chosen = this.#random.next()
      this.#clock.defer(() => void (this.#chosen = null))
    }
    return Math.floor(this.#chosen * partitions)
  }
}

/** As the routing keys of partitions are. */
function isNumber(text: string): boolean {
  const first = text.charCodeAt(0)
  return first >= 48 && first <= 57 && /^[0-9]+$/.test(text)
}

function textKey(key: Uint8Array): string {
  if (key.length > LONGEST_ROUTING_KEY) return ''
  const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength)
  return isUtf8(bytes) ? bytes.toString('utf8') : ''
}
