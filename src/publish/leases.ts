import type { Deadline } from '../contract/broker.ts'
import type { Clock } from '../contract/clock.ts'
import type { Lease, LeaseGrant } from '../contract/store.ts'

/** The part of a lease in which nothing new is begun: what was begun can still end within it. */
const MARGIN = 0.2

/**
 * The buckets this relay owns. Their age counts on our own monotonic clock from before the store was
 * asked, so they are never believed to be ours longer than the store believes it.
 */
export class Leases {
  readonly #clock: Clock
  readonly #ttlMs: number
  #held = new Map<number, Lease>()
  #leaving: readonly Lease[] = []
  #reading: readonly Lease[] = []
  #expiresAt = Number.NEGATIVE_INFINITY
  #buckets = Number.MAX_SAFE_INTEGER
  #contenders = 1

  constructor(clock: Clock, ttlMs: number) {
    this.#clock = clock
    this.#ttlMs = ttlMs
  }

  get held(): number {
    return this.#held.size
  }

  get contenders(): number {
    return this.#contenders
  }

  /** How many buckets to ask for: our share, or what we hold while we have not given the rest back. */
  get want(): number {
    return Math.max(this.#share, this.#held.size)
  }

  /** Nothing may be begun from this instant on; later renewals move it. */
  get until(): Deadline {
    return this.#expiresAt - this.#ttlMs * MARGIN
  }

  /** Buckets whose rows may be read now. */
  get reading(): readonly Lease[] {
    return this.#clock.now() < this.until ? this.#reading : []
  }

  /** Buckets to be given back as soon as nothing of them is in flight. */
  get leaving(): readonly Lease[] {
    return this.#leaving
  }

  all(): readonly Lease[] {
    return [...this.#held.values()]
  }

  /** Our lease of the bucket now, whether or not it is about to be given back. */
  of(bucket: number): Lease | undefined {
    return this.#held.get(bucket)
  }

  /** Takes what the store granted to a call that began at `askedAt`; returns the buckets that were lost. */
  renew({ leases, buckets, contenders }: LeaseGrant, askedAt: number): readonly Lease[] {
    const before = this.#held
    this.#held = new Map(leases.map((lease) => [lease.bucket, lease]))
    this.#expiresAt = askedAt + this.#ttlMs
    this.#buckets = buckets
    this.#contenders = contenders
    this.#divide()
    return [...before.values()].filter(
      ({ bucket, epoch }) => this.#held.get(bucket)?.epoch !== epoch,
    )
  }

  /** They were given back. */
  released(leases: readonly Lease[]): void {
    for (const { bucket } of leases) this.#held.delete(bucket)
    this.#divide()
  }

  get #share(): number {
    return Math.ceil(this.#buckets / Math.max(1, this.#contenders))
  }

  /** Those already leaving stay so, that two rounds do not give up different ones. */
  #divide(): void {
    const surplus = this.#held.size - this.#share
    const leaving = new Set(this.#leaving.map(({ bucket }) => bucket))
    const order = [...this.#held.values()].toSorted(
      (one, other) => Number(leaving.has(one.bucket)) - Number(leaving.has(other.bucket)),
    )
    const kept = surplus > 0 ? order.length - surplus : order.length
    this.#reading = order.slice(0, kept)
    this.#leaving = order.slice(kept)
  }
}
