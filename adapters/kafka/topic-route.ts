import type { Random } from '../../src/contract/clock.ts'
import { PublishRefusedError } from '../../src/contract/errors.ts'
import { textHash } from '../../src/contract/partition.ts'
import type { Partitioner } from './options.ts'
import type { Outgoing } from './outgoing.ts'
import { PartitionQueue } from './partition-queue.ts'
import type { TopicLayout } from './topics.ts'

/** How partitions are chosen. */
export interface RoutingOptions {
  readonly partitioner: Partitioner
  readonly random: Random
  /** As if the topic had that many partitions; `null`: as many as it has. */
  readonly frozenCount: number | null
}

/** Messages without a key stay together up to that many, then take another partition. */
const STICKY_RECORDS = 100
/** How often another partition is drawn in the hope for one that is free. */
const DRAWS = 3

/** One Kafka topic that is written to: its partitions, and which of them a message goes to. */
export class TopicRoute {
  readonly topic: string
  readonly #options: RoutingOptions
  #queues: PartitionQueue[] = []
  #sticky: PartitionQueue | null = null
  #stuck = 0
  layout: TopicLayout | null = null
  /** What waits until it is known which partitions there are. */
  waiting: Outgoing[] = []
  isLooking = false
  /** Looks in a row that failed. */
  tries = 0

  constructor(topic: string, options: RoutingOptions) {
    this.topic = topic
    this.#options = options
  }

  get queues(): readonly PartitionQueue[] {
    return this.#queues
  }

  /** Takes over what was learnt; returns what waits for partitions that are no more. */
  learn(layout: TopicLayout): Outgoing[] {
    this.layout = layout
    const count = layout.leaders.length
    for (let partition = this.#queues.length; partition < count; partition++) {
      this.#queues.push(new PartitionQueue(this, partition))
    }
    this.#sticky = null
    return this.#queues.splice(count).flatMap((queue) => queue.drain())
  }

  /** The topic is not there: takes out everything that waits. */
  forget(): Outgoing[] {
    const all = [...this.waiting, ...this.#queues.flatMap((queue) => queue.drain())]
    this.waiting = []
    this.layout = null
    return all
  }

  /** The queue it goes to; the layout has to be known. Throws an error that says why there is none. */
  queueFor(item: Outgoing): PartitionQueue {
    const { key, orderKey } = item.envelope
    if (key === null && orderKey === null) return this.#anyQueue()
    const { partitioner, frozenCount } = this.#options
    const count = frozenCount ?? this.#queues.length
    const partition = key === null ? textHash(orderKey as string) % count : partitioner(key, count)
    return this.#queues[partition] ?? noPartition(this.topic, partition, this.#queues.length)
  }

  /** One for many, so that a batch is filled; then another one by chance. */
  #anyQueue(): PartitionQueue {
    const sticky = this.#sticky
    if (sticky !== null && sticky.state === 'idle' && ++this.#stuck < STICKY_RECORDS) return sticky
    let drawn = this.#draw()
    for (let draws = 1; draws < DRAWS && !isFree(drawn); draws++) drawn = this.#draw()
    this.#sticky = drawn
    this.#stuck = 0
    return drawn
  }

  #draw(): PartitionQueue {
    const led = this.#queues.filter(({ lane }) => lane !== null)
    const among = led.length > 0 ? led : this.#queues
    return among[Math.floor(this.#options.random.next() * among.length)] as PartitionQueue
  }
}

function isFree({ state, size }: PartitionQueue): boolean {
  return state === 'idle' && size === 0
}

function noPartition(topic: string, partition: number, count: number): never {
  const text = `there is no partition ${partition} of ${topic}, which has ${count}: look at the options partitioner and frozenPartitionCount`
  throw new PublishRefusedError('rejected', text, { topic })
}
