import type { Lease, LeaseGrant } from '../../src/contract/store.ts'

interface Bucket {
  owner: string | null
  epoch: number
  untilMs: number
}

/** Who may move the rows of which bucket. Only expiry ends a lease that is not released. */
export class LeaseTable {
  readonly #buckets: Bucket[]
  /** Relays that asked, and until when that counts. */
  readonly #contenders = new Map<string, number>()

  constructor(count: number) {
    this.#buckets = Array.from({ length: count }, () => ({ owner: null, epoch: 0, untilMs: 0 }))
  }

  /** Renews what the owner holds, then takes what is free, up to `want`. */
  lease(owner: string, want: number, ttlMs: number, nowMs: number): LeaseGrant {
    const untilMs = nowMs + ttlMs
    this.#contend(owner, untilMs, nowMs)
    const leases: Lease[] = []
    for (const mine of [true, false]) {
      for (const [bucket, state] of this.#buckets.entries()) {
        if (leases.length >= want || (state.owner === owner) !== mine) continue
        if (!mine && state.owner !== null && state.untilMs > nowMs) continue
        if (!mine) state.epoch++
        state.owner = owner
        state.untilMs = untilMs
        leases.push({ bucket, epoch: state.epoch, owner })
      }
    }
    return { leases, buckets: this.#buckets.length, contenders: this.#contenders.size }
  }

  /** Frees these buckets; a relay that has none left does not count any more. */
  release(leases: readonly Lease[]): void {
    for (const lease of leases) {
      if (!this.#holds(lease)) continue
      ;(this.#buckets[lease.bucket] as Bucket).owner = null
      if (this.#buckets.every((state) => state.owner !== lease.owner)) {
        this.#contenders.delete(lease.owner)
      }
    }
  }

  /** The buckets of those leases that nobody took over. */
  held(leases: readonly Lease[]): ReadonlySet<number> {
    const held = new Set<number>()
    for (const lease of leases) if (this.#holds(lease)) held.add(lease.bucket)
    return held
  }

  #holds({ bucket, owner, epoch }: Lease): boolean {
    const state = this.#buckets[bucket]
    return state?.owner === owner && state.epoch === epoch
  }

  #contend(owner: string, untilMs: number, nowMs: number): void {
    for (const [name, until] of this.#contenders) {
      if (until <= nowMs) this.#contenders.delete(name)
    }
    this.#contenders.set(owner, untilMs)
  }
}
