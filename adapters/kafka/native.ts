import type { TopicPartition } from './driver.ts'

/** Coordinates of a record: topic and partition by Kafka's names, offset decimal, time in Unix milliseconds. */
export interface Origin {
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly timestampMs: number
}

/** What a received record carries beyond its envelope: where it was first read, also when this is a copy. */
export class Native {
  readonly #at: TopicPartition
  readonly #offset: bigint
  readonly #timestampMs: number
  readonly #carried: string | null

  /** `carried`: what a copy says of where it came from. */
  constructor(at: TopicPartition, offset: bigint, timestampMs: number, carried: string | null) {
    this.#at = at
    this.#offset = offset
    this.#timestampMs = timestampMs
    this.#carried = carried
  }

  /** Worked out only when somebody asks: most messages are never copied. */
  get origin(): Origin {
    const origin = this.#carried === null ? null : originOf(this.#carried)
    if (origin !== null) return origin
    const { topic, partition } = this.#at
    return { topic, partition, offset: String(this.#offset), timestampMs: this.#timestampMs }
  }
}

/** An origin as the header has it. */
export function originText({ topic, partition, offset, timestampMs }: Origin): string {
  return `${topic}/${partition}/${offset}/${timestampMs}`
}

/** The origin in a header; `null` when it is not what `originText` writes. */
function originOf(text: string): Origin | null {
  const [, topic, partition, offset, timestamp] =
    /^([A-Za-z0-9._-]+)\/(\d{1,10})\/(\d{1,20})\/(-?\d{1,16})$/.exec(text) ?? []
  if (topic === undefined || offset === undefined) return null
  return { topic, partition: Number(partition), offset, timestampMs: Number(timestamp) }
}
