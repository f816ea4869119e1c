/** What keeps its order: messages of one key, of one partition, or nothing. */
export type Ordering = 'key' | 'partition' | 'none'

/**
 * What a broker can keep, as data. The core and the conformance suite read it; nobody compares a
 * broker's name. What is asked for and not listed here is refused with a `CapabilityError`.
 */
export interface Capabilities {
  readonly ordering: readonly Ordering[]
  /**
   * true: after a key's envelope ends other than confirmed, later ones of that key in the same call
   * end refused('predecessor'), also across byte splits. false: the caller hands over at most one
   * unresolved envelope per key.
   */
  readonly keyRunsInOneSend: boolean
  /** native: `Delivery.retry`, where it can wait that long, else as levels; levels: a confirmed send to `{ kind: 'group', delayMs }`; none: in the lane only. */
  readonly retryDelay: 'native' | 'levels' | 'none'
  /** Who counts attempts across processes: the broker itself, our header, nobody. */
  readonly attemptCount: 'broker' | 'header' | 'none'
  /** What `Receiver.transact` takes: contiguous deliveries of one source, any, or there is no transact. */
  readonly atomicPublish: 'prefix' | 'any' | 'none'
  /** Where it is 'none' although the broker has transactions: why, and what to do, for an error. */
  readonly whyNotAtomic?: string
  readonly pause: 'source' | 'all'
  /** How long and how many deliveries may be held unsettled, and what waits behind a held one. */
  readonly hold: {
    readonly maxMs: number
    readonly maxMessages: number
    readonly isolation: 'key' | 'source'
  }
  /** Whether settling out of order is remembered by the broker, and how many holes it can remember. */
  readonly progress: {
    readonly outOfOrder: 'any' | 'encoded' | 'none'
    readonly maxHoles: number
  }
  /** Where false the adapter encodes: the round trip is a conformance case either way. */
  readonly headers: {
    readonly duplicate: boolean
    readonly binary: boolean
    readonly null: boolean
  }
  readonly tombstones: boolean
  readonly scheduledSend: { readonly maxDelayMs: number } | null
  readonly reply: boolean
  limits(topic: string): { readonly maxBodyBytes: number }
}
