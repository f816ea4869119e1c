import { isOwnHeader } from '../contract/headers.ts'
import type { Envelope, Headers } from '../contract/message.ts'
import { NO_HEADERS } from '../contract/message.ts'
import type { PayloadOf } from '../contract/topic.ts'
import type { AnyTopic } from './consumed-topic.ts'

/** A message as handlers see it: the payload typed and validated, the rest as it travelled. */
export interface Message<Payload = unknown> {
  readonly payload: Payload
  readonly topic: string
  /** `null`: a message without identity, handled because `requireId` is false. */
  readonly id: string | null
  /** The key as text; `null` when it has none. */
  readonly key: string | null
  /** In the order they were written, duplicates kept, without holdfast's own. */
  readonly headers: Headers
  /** CloudEvents `type`. */
  readonly type: string | null
  /** CloudEvents `source`. */
  readonly producer: string | null
  readonly contentType: string | null
  /** Unix milliseconds at which it was made. */
  readonly timeMs: number | null
  /** Number of this try, 1-based. */
  readonly attempt: number
  /** 'no' only when it certainly was never handed to a handler before. */
  readonly redelivered: 'no' | 'maybe' | 'yes'
}

/** Narrows a message of a consumer of several topics to the one it came from. */
export function isOf<T extends AnyTopic>(
  message: Message,
  topic: T,
): message is Message<PayloadOf<T>> {
  return message.topic === topic.name
}

/** Reads key and headers only when somebody asks. */
export class ReceivedMessage implements Message {
  readonly payload: unknown
  readonly topic: string
  readonly id: string | null
  /** Known when the handler is about to run. */
  attempt = 0
  readonly redelivered: 'no' | 'maybe' | 'yes'
  readonly #envelope: Envelope

  constructor(
    payload: unknown,
    topic: string,
    id: string | null,
    envelope: Envelope,
    redelivered: 'no' | 'maybe' | 'yes',
  ) {
    this.payload = payload
    this.topic = topic
    this.id = id
    this.redelivered = redelivered
    this.#envelope = envelope
  }

  get key(): string | null {
    const { key } = this.#envelope
    return key === null
      ? null
      : Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('utf8')
  }

  get headers(): Headers {
    const { headers } = this.#envelope
    if (headers.length === 0) return NO_HEADERS
    return headers.filter(([name]) => !isOwnHeader(name))
  }

  get type(): string | null {
    return this.#envelope.type
  }

  get producer(): string | null {
    return this.#envelope.producer
  }

  get contentType(): string | null {
    return this.#envelope.contentType
  }

  get timeMs(): number | null {
    return this.#envelope.timeMs
  }
}
