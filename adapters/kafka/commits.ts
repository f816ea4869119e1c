import type { Cancel, Clock, Random } from '../../src/contract/clock.ts'
import { HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import { exponential } from '../../src/policy/backoff.ts'
import type { DriverConsumer } from './driver.ts'
import type { PartitionSource, Pending } from './partition-source.ts'

/** Who commits, and for which assignment. */
interface Committer {
  readonly consumer: DriverConsumer
  readonly epoch: number
}

/** What commits are made with. */
export interface CommitsOptions {
  readonly clock: Clock
  readonly random: Random
  readonly emit: Emit
  readonly groupId: string
  /** Who commits, and under which assignment; `null`: nobody at present. */
  readonly member: () => Committer | null
  /** The client writes metadata beside offsets. */
  readonly remembers: boolean
  readonly requestTimeoutMs: number
  /** Commits have been failing for long, or work again. */
  readonly health: (trouble: HoldfastError | null) => void
}

/** How long settles wait for others to be committed with. */
const PAUSE_MS = 500
/** Commits that fail for that long are told. */
const TROUBLED_MS = 30_000

const backoff = exponential({ initialMs: 50, maxMs: 2_000 })

/** Whoever waits for everything that was settled by then. */
interface Waiting {
  readonly marks: ReadonlyMap<PartitionSource, number>
  /** A commit that began earlier does not end it. */
  readonly notBefore: number
  readonly resolve: () => void
}

/**
 * Commits what is done: together, twice a second, one request at a time, and again until the broker has
 * it or the assignment is over.
 */
export class Commits {
  readonly #options: CommitsOptions
  readonly #dirty = new Set<PartitionSource>()
  /** Those of which nothing will be handed out any more. */
  readonly #last = new Set<PartitionSource>()
  /** Those that somebody else commits. */
  readonly #alone = new Set<PartitionSource>()
  #waiting: Waiting[] = []
  #timer: Cancel | null = null
  #isRunning = false
  #current: Promise<void> = Promise.resolve()
  #isAgain = false
  #isClosed = false
  /** Commits begun so far, and the last of them that the broker has. */
  #begun = 0
  #made = 0
  /** The last assignment of which a commit was not answered: it may reach the broker at any time. */
  #doubtful: Committer | null = null
  #failures = 0
  #failingSince: number | null = null
  /** What is done beyond the offset is told too; until the broker refuses it as too large. */
  #remembers: boolean

  constructor(options: CommitsOptions) {
    this.#options = options
    this.#remembers = options.remembers
  }

  /** Something of it is to be committed. */
  touch(source: PartitionSource, soon: boolean): void {
    if (this.#isClosed) return
    this.#dirty.add(source)
    if (soon) this.#now()
    else if (this.#timer === null && !this.#isRunning) this.#arm(PAUSE_MS)
  }

  /** There is a member again, or another assignment. */
  kick(): void {
    this.#failures = 0
    if (this.#dirty.size > 0) this.#now()
  }

  /** It is lost. */
  forget(source: PartitionSource): void {
    this.#dirty.delete(source)
    this.#last.delete(source)
    this.#look()
  }

  /** Resolves when the broker has every settle of these that was made before, or they are lost; waits for ever otherwise. */
  flush(sources: Iterable<PartitionSource>): Promise<void> {
    return this.#settled([...sources], 0)
  }

  /** The same, and says with it that handlers got no further than they did. */
  conclude(sources: Iterable<PartitionSource>): Promise<void> {
    const own = [...sources].filter(({ state }) => state !== 'lost')
    for (const source of own) this.#last.add(source)
    return this.#settled(own, this.#begun + 1)
  }

  /**
   * While the work runs, nothing of the source is committed here: of two commits under way nobody knows
   * which comes last. `remembers`: metadata is taken.
   */
  async alone<T>(source: PartitionSource, work: (remembers: boolean) => Promise<T>): Promise<T> {
    this.#alone.add(source)
    try {
      await this.#current
      return await work(this.#remembers)
    } finally {
      this.#alone.delete(source)
      this.touch(source, true)
    }
  }

  /** A commit of that assignment may still be on its way, and would take back what a transaction commits. */
  isInDoubt({ consumer, epoch }: Committer): boolean {
    return consumer === this.#doubtful?.consumer && epoch === this.#doubtful.epoch
  }

  close(): void {
    this.#isClosed = true
    this.#timer?.()
    this.#timer = null
    this.#dirty.clear()
    for (const { resolve } of this.#waiting.splice(0)) resolve()
  }

  #settled(sources: readonly PartitionSource[], notBefore: number): Promise<void> {
    if (sources.length === 0) return Promise.resolve()
    const marks = new Map(sources.map((source) => [source, source.settled]))
    for (const source of sources) this.#dirty.add(source)
    return new Promise((resolve) => {
      this.#waiting.push({ marks, notBefore, resolve })
      this.#now()
    })
  }

  #arm(ms: number): void {
    this.#timer?.()
    this.#timer = this.#options.clock.after(ms, () => {
      this.#timer = null
      this.#now()
    })
  }

  #now(): void {
    if (this.#isClosed) return
    if (this.#isRunning) this.#isAgain = true
    // A back-off that was begun is kept: somebody in a hurry does not make the broker better.
    else if (this.#failures === 0 || this.#timer === null) void this.#run()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    this.#timer?.()
    this.#timer = null
    do {
      this.#isAgain = false
      this.#current = this.#round()
      await this.#current
    } while (this.#isAgain && this.#failures === 0 && !this.#isClosed)
    this.#isRunning = false
    if (this.#isClosed || this.#dirty.size === 0) return
    const { random } = this.#options
    this.#arm(this.#failures === 0 ? PAUSE_MS : backoff.delayFor(this.#failures, random))
  }

  /** One commit of everything there is. Never rejects. */
  async #round(): Promise<void> {
    const member = this.#options.member()
    if (member === null) return
    const number = ++this.#begun
    const sources = [...this.#dirty]
    const pending = new Map<PartitionSource, Pending>()
    for (const source of sources) {
      if (this.#alone.has(source)) continue
      this.#dirty.delete(source)
      const one = source.pending(this.#last.has(source), this.#remembers)
      if (one !== null) pending.set(source, one)
    }
    if (pending.size > 0 && !(await this.#commit(member, pending))) return
    this.#made = number
    this.#look()
  }

  async #commit(
    { consumer, epoch }: Committer,
    pending: ReadonlyMap<PartitionSource, Pending>,
  ): Promise<boolean> {
    const { clock, requestTimeoutMs } = this.#options
    try {
      await consumer.commit(epoch, [...pending.values()], clock.now() + requestTimeoutMs)
      for (const [source, one] of pending) source.saved(one)
      this.#succeeded()
      return true
    } catch (error) {
      for (const source of pending.keys()) if (source.state !== 'lost') this.#dirty.add(source)
      if (isUnanswered(error)) this.#doubt({ consumer, epoch })
      this.#failed(error)
      return false
    }
  }

  /** Of plain commits the next one puts it right; a transaction is to be the last word. */
  #doubt(committer: Committer): void {
    const { consumer } = committer
    if (consumer.transact === undefined || this.isInDoubt(committer)) return
    this.#doubtful = committer
    consumer.renew?.()
  }

  #succeeded(): void {
    this.#failures = 0
    if (this.#failingSince !== null) this.#options.health(null)
    this.#failingSince = null
  }

  #failed(error: unknown): void {
    const { emit, groupId, clock, health } = this.#options
    if (isHoldfastError(error) && error.code === 'too-large' && this.#remembers) {
      this.#remembers = false
      this.#isAgain = true
      const message = `the broker takes less metadata beside an offset than 4 096 bytes: group "${groupId}" gets again what was finished out of order when a consumer dies. Raise offset.metadata.max.bytes`
      return emit({ type: 'warning', code: 'kafka.metadata-too-large', message })
    }
    this.#failures++
    this.#failingSince ??= clock.now()
    if (clock.now() - this.#failingSince < TROUBLED_MS) return
    const why = error instanceof Error ? error.message : String(error)
    health(new HoldfastError('unavailable', `nothing can be committed: ${why}`))
  }

  /** Who waits for nothing more goes on. */
  #look(): void {
    this.#waiting = this.#waiting.filter(({ marks, notBefore, resolve }) => {
      const isLost = [...marks.keys()].every(({ state }) => state === 'lost')
      if (this.#made < notBefore && !isLost) return true
      for (const [source, mark] of marks) if (!source.hasTold(mark)) return true
      resolve()
      return false
    })
  }
}

/** No broker has said what became of it. */
function isUnanswered(error: unknown): boolean {
  return !isHoldfastError(error) || error.code === 'timeout' || error.code === 'connection-lost'
}
