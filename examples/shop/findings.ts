/** Orders of one kind: how many, and the first few by name. */
export interface Named {
  readonly count: number
  readonly first: readonly string[]
}

/** A time without the broker. */
export interface Away {
  readonly ms: number
  readonly acceptedMeanwhile: number
}

/** How many orders of a kind are named. */
const NAMED = 5

export function named(orders: Iterable<string>): Named {
  const all = [...orders]
  return { count: all.length, first: all.slice(0, NAMED) }
}

/** What a run left behind, counted by somebody who does not trust the library: plain SQL and histories. */
export interface Findings {
  /** Lines of the input that are not blank, counted from the file itself. */
  readonly read: number
  readonly rejected: number
  readonly rejections: readonly { readonly line: number; readonly reason: string }[]
  /** The intake reached the end of the input. */
  readonly finished: boolean
  readonly accepted: number
  /** Messages that left the outbox for the broker. */
  readonly published: number
  /** Messages still in the outbox. */
  readonly waiting: number
  /** Messages the relay gave up. */
  readonly parked: number
  /** Orders for which a handler ran, or that are in the dead letters without one. */
  readonly delivered: number
  /** Handlers that ran again for a message, and deliveries of which only the inbox heard. */
  readonly redelivered: { readonly handled: number; readonly duplicates: number }
  readonly charged: number
  readonly chargedTwice: Named
  /** Charges of an order that nobody placed, or with another customer or amount. */
  readonly invented: Named
  /** Handed to a handler, though nobody placed them: a message of a transaction that was rolled back. */
  readonly strangers: Named
  /** Accepted, and neither charged nor in the dead letters; or taken, as the history says, and gone. */
  readonly lost: Named
  /** Later than a later order of the same customer: by first delivery, by charge. */
  readonly lateDeliveries: Named
  readonly lateCharges: Named
  readonly dead: number
  readonly deadReasons: Readonly<Record<string, number>>
  /** Orders that have to fail for ever. */
  readonly hopeless: number
  /** Hopeless and not in the dead letters. */
  readonly deadMissing: Named
  /** In the dead letters and not hopeless. */
  readonly deadUnexpected: Named
  /** In the dead letters and charged. */
  readonly deadAndCharged: Named
  /** Orders with an attempt that failed and was tried again with success. */
  readonly retried: number
  readonly kills: Readonly<Record<string, number>>
  /** Exits nobody asked for. */
  readonly crashes: Readonly<Record<string, number>>
  readonly outages: readonly Away[]
  /** Why the broker could not be taken away. */
  readonly outageFailures: readonly string[]
  readonly restarts: readonly Away[]
  /** Why the broker could not be restarted. */
  readonly restartFailures: readonly string[]
  /** Messages the broker still has for billing; null when nobody looked. */
  readonly leftInBroker: number | null
  /** Lines of the histories that are not whole. */
  readonly torn: number
}
