import type { Clock } from '../contract/clock.ts'
import type { CrashPoints } from '../contract/crash-points.ts'
import type { Emit } from '../contract/events.ts'
import type { Lease, LeaseGrant, OutboxStore } from '../contract/store.ts'
import { Wake } from '../policy/wake.ts'
import type { Leases } from './leases.ts'
import type { Steady } from './steady.ts'

/** What keeping leases needs. */
export interface LeaseKeeperOptions {
  readonly store: Pick<OutboxStore<never>, 'lease' | 'release'>
  readonly owner: string
  readonly ttlMs: number
  readonly leases: Leases
  readonly steady: Steady
  readonly clock: Clock
  readonly crash: CrashPoints
  readonly emit: Emit
  /** Whether rows of the bucket are on their way. */
  readonly isUsed: (bucket: number) => boolean
  /** Told after each round, with the leases that were lost in it. */
  readonly changed: (lost: readonly Lease[]) => void
}

/** Keeps our share of the buckets: renews in time, gives back the surplus when others want some. */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions
  readonly #wake: Wake
  #asked: Promise<LeaseGrant> | null = null
  #told = ''
  #isFirst = true

  constructor(options: LeaseKeeperOptions) {
    this.#options = options
    this.#wake = new Wake(options.clock)
  }

  /** Runs until the steady calls are stopped. */
  run(): Promise<void> {
    const round = (): Promise<number> => this.#round()
    const job = { name: 'lease', wake: this.#wake, round, ended: () => false }
    return this.#options.steady.rounds(job)
  }

  /** Looks again now: a bucket that is to be given back may be free, or it stops. */
  ring(): void {
    this.#wake.ring()
  }

  /** After the stop: waits for the call that was under way, since what it grants is ours to give back. */
  async ended(): Promise<void> {
    const { leases, clock } = this.#options
    const grant = await this.#asked?.catch(() => null)
    if (grant) leases.renew(grant, clock.now())
  }

  async #round(): Promise<number> {
    await this.#renew()
    if (this.#isFirst) this.#options.crash.at('after_lease')
    this.#isFirst = false
    await this.#giveBack()
    return this.#pauseMs()
  }

  async #renew(): Promise<void> {
    const { store, owner, ttlMs, leases, steady, clock, changed } = this.#options
    let askedAt = 0
    const ask = (): Promise<LeaseGrant> => {
      // Before the call: what passes until its answer is part of the lease's age.
      askedAt = clock.now()
      this.#asked = store.lease(owner, leases.want, ttlMs)
      return this.#asked
    }
    const grant = await steady.call('lease', ask)
    const lost = leases.renew(grant, askedAt)
    this.#tell()
    changed(lost)
  }

  async #giveBack(): Promise<void> {
    const { store, leases, steady, isUsed } = this.#options
    const free = leases.leaving.filter(({ bucket }) => !isUsed(bucket))
    if (free.length === 0) return
    await steady.call('release', () => store.release(free))
    leases.released(free)
    this.#tell()
  }

  /** Sooner while buckets are to be given back or to be had. */
  #pauseMs(): number {
    const { leases, ttlMs } = this.#options
    return leases.leaving.length > 0 || leases.held < leases.want ? ttlMs / 15 : ttlMs / 3
  }

  #tell(): void {
    const { leases, emit } = this.#options
    const { held, contenders } = leases
    const text = `${held} of ${contenders}`
    if (text === this.#told) return
    this.#told = text
    emit({ type: 'relay.leases', held, contenders })
  }
}
