import { HoldfastError } from '../../src/contract/errors.ts'
import { jsonCodec } from '../../src/contract/json-codec.ts'
import type { Envelope, Headers } from '../../src/contract/message.ts'
import type { Topic } from '../../src/contract/topic.ts'

/** A message as it was published; the payload is decoded when it is read. */
export interface PublishedMessage<T> {
  readonly id: string | null
  readonly key: string | null
  readonly headers: Headers
  /** Throws a `CodecError` when the body is not what the topic's codec writes. `null` for a tombstone. */
  readonly payload: T
  readonly envelope: Envelope
}

/** The messages published to one topic, for tests to look at, as long as they are few. */
export class PublishedLog {
  readonly #topic: string
  readonly #keep: number
  #kept: Envelope[] = []
  #count = 0

  constructor(topic: string, keep: number) {
    this.#topic = topic
    this.#keep = keep
  }

  /** How many were published in all. */
  get count(): number {
    return this.#count
  }

  add(envelope: Envelope): void {
    this.#count++
    if (this.#count <= this.#keep) this.#kept.push(envelope)
    // Nobody can see them any more, and holding on to messages is what costs most of a broker's time.
    else if (this.#kept.length > 0) this.#kept = []
  }

  /** All of them, oldest first; throws when they were more than are kept. */
  all(): readonly Envelope[] {
    if (this.#count > this.#keep) {
      throw new HoldfastError(
        'option',
        `${this.#count} messages were published to topic "${this.#topic}" and the option keepPublished is ${this.#keep}: raise it to see them all`,
        { topic: this.#topic },
      )
    }
    return [...this.#kept]
  }
}

const plainJson = jsonCodec()

/** The envelope as a message of the topic; without a topic the body is read as JSON. */
export function publishedMessage<T>(
  envelope: Envelope,
  topic: Topic<T, unknown> | null,
): PublishedMessage<T> {
  const codec = topic?.codec ?? plainJson
  return {
    id: envelope.id,
    key: envelope.key === null ? null : Buffer.from(envelope.key).toString('utf8'),
    headers: envelope.headers,
    get payload(): T {
      return (envelope.body === null ? null : codec.decode(envelope.body)) as T
    },
    envelope,
  }
}
