import type { Ordering } from '../contract/capabilities.ts'
import type { Codec } from '../contract/codec.ts'
import type { Topic } from '../contract/topic.ts'

/** A Standard Schema of any payload. */
export type AnySchema = NonNullable<Topic['schema']>

/** A topic of any payload: what every `Topic` fits. */
export interface AnyTopic {
  readonly name: string
  readonly type: string
  readonly ordering: Ordering
  readonly codec: Codec
  readonly schema: AnySchema | null
  readonly key: ((payload: never) => string) | null
}

/** A topic as this consumer reads it. */
export interface ConsumedTopic {
  readonly topic: AnyTopic
  readonly name: string
  /** `topic.group`: whose inbox rows and starts. */
  readonly consumer: string
  readonly ordering: Ordering
  /** Ascending. */
  readonly retryLevelsMs: readonly number[]
}
