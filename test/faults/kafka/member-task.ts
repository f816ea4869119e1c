import type { Ordering } from '../../../src/contract/capabilities.ts'

/** What a consumer in a process of its own is told, as JSON. */
export interface MemberTask {
  /** Name in the history. */
  readonly proc: string
  /** File of the history. */
  readonly history: string
  readonly brokers: readonly string[]
  readonly topic: string
  readonly group: string
  readonly partitions: number
  readonly ordering: Ordering
  readonly concurrency: number
  readonly prefetch: number
  readonly sessionTimeoutMs: number
  /** How long a handler takes. */
  readonly handlerMs: number
  /** Ids whose handler never ends. */
  readonly stuck: readonly string[]
  /** An id whose handler kills the process. */
  readonly killer: string | null
  /** A file that all of them count starts in; `null`: nobody does. */
  readonly starts: string | null
  /** Tries before a message is given up. */
  readonly attempts: number
}

/** What is published: `n` is dense from 0 per key. */
export interface Item {
  readonly key: string
  readonly n: number
}
