import type {
  Deadline,
  Delivery,
  DeliverySink,
  Receiver,
  Source,
  Subscription,
} from '../../src/contract/broker.ts'
import type { Ordering } from '../../src/contract/capabilities.ts'
import { CapabilityError, HoldfastError } from '../../src/contract/errors.ts'
import type { Emit } from '../../src/contract/events.ts'
import type { Envelope } from '../../src/contract/message.ts'
import type { Assignment, Intake } from './assignment.ts'
import type { Group } from './group.ts'
import type { MemoryServer } from './server.ts'
import { transact } from './transact.ts'
import type { Router } from './router.ts'

/** What a receiver needs of its connection. */
export interface ReceiverContext {
  readonly server: MemoryServer
  readonly router: Router
  readonly emit: Emit
  /** Whether the link is there; without it nothing is settled. */
  connected(): boolean
  closed(receiver: MemoryReceiver): void
}

type Transact = NonNullable<Receiver['transact']>

/** One member of a group: takes what its bounds allow and settles at once. */
export class MemoryReceiver implements Receiver, Intake {
  readonly subscription: Subscription
  readonly sink: DeliverySink
  readonly emit: Emit
  /** Only where `atomicPublish` is not 'none'. */
  readonly transact?: Transact
  readonly #context: ReceiverContext
  readonly #groups: readonly Group[]
  readonly #paused = new Set<Source>()
  #pausedAll = false
  #state: 'open' | 'stopped' | 'closed' = 'open'
  #held = 0
  #heldBytes = 0
  #starved = false
  #missed = 0
  /** Ends the waits for `revoking`. */
  readonly #yielding = new Set<() => void>()

  constructor(
    subscription: Subscription,
    sink: DeliverySink,
    groups: readonly Group[],
    context: ReceiverContext,
  ) {
    this.subscription = subscription
    this.sink = sink
    this.emit = context.emit
    this.#groups = groups
    this.#context = context
    if (context.server.capabilities.atomicPublish !== 'none') {
      this.transact = (done, produced) => this.#transact(done, produced)
    }
  }

  get ordering(): Ordering {
    return this.subscription.ordering
  }

  /** Becomes a member of its groups: sources come, and with them deliveries. */
  join(): void {
    if (this.#state === 'closed') return
    for (const group of this.#groups) {
      group.consumed = true
      group.members.join(this)
    }
  }

  /** Loses everything at once, as a connection does that breaks. */
  leave(): Assignment[] {
    return this.#groups.flatMap((group) => group.members.leave(this))
  }

  /** At least one message is let through, however large: it could never come else. */
  hasRoom(bytes: number): boolean {
    const { messages, bytes: most } = this.subscription.maxHeld
    const fits = this.#held === 0 || this.#heldBytes + bytes <= most
    if (fits && this.#held < messages) return true
    this.#starved = true
    return false
  }

  takes(source: Assignment): boolean {
    return this.#state === 'open' && !this.#pausedAll && !this.#paused.has(source)
  }

  took(bytes: number): void {
    this.#held++
    this.#heldBytes += bytes
  }

  gave(bytes: number): void {
    this.#held--
    this.#heldBytes -= bytes
    if (this.#starved) this.#wake()
  }

  missed(): void {
    this.#missed++
  }

  #wake(): void {
    this.#starved = false
    for (const group of this.#groups) for (const feed of group.feeds) feed.wake()
  }

  pause(sources?: readonly Source[]): void {
    if (sources === undefined) this.#pausedAll = true
    else for (const source of this.#single(sources)) this.#paused.add(source)
  }

  /** `resume()` ends what `pause()` began, `resume(sources)` what `pause(sources)` began. */
  resume(sources?: readonly Source[]): void {
    if (sources === undefined) this.#pausedAll = false
    else for (const source of this.#single(sources)) this.#paused.delete(source)
    this.#wake()
  }

  #single(sources: readonly Source[]): readonly Source[] {
    if (this.#context.server.capabilities.pause === 'source') return sources
    throw new CapabilityError(
      "this broker pauses everything or nothing (pause: 'all'): call pause() without sources",
    )
  }

  /** Settles reach the server at once, so this only tells of those that a fault kept from it. */
  flush(_deadline: Deadline): Promise<void> {
    const count = this.#missed
    this.#missed = 0
    if (count === 0) return Promise.resolve()
    const text = `${count} settles did not reach the broker; their messages come again`
    return Promise.reject(new HoldfastError('settle', text))
  }

  stop(_deadline: Deadline): Promise<void> {
    if (this.#state === 'open') this.#state = 'stopped'
    return Promise.resolve()
  }

  close(_deadline: Deadline): Promise<void> {
    this.end()
    return Promise.resolve()
  }

  /** The end: what is held goes back, nothing comes any more. Idempotent. */
  end(error?: HoldfastError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const end of [...this.#yielding]) end()
    const lost = this.leave()
    this.#context.closed(this)
    if (error !== undefined && lost.length > 0) this.sink.lost(lost)
    this.sink.ended(error)
  }

  /** The end of a process: nobody is told. */
  vanish(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const end of [...this.#yielding]) end()
    this.leave()
  }

  yields(sources: readonly Assignment[], deadline: Deadline): Promise<void> {
    const { clock } = this.#context.server
    return new Promise((resolve) => {
      const done = (): void => {
        this.#yielding.delete(done)
        cancel()
        resolve()
      }
      const cancel = clock.after(deadline - clock.now(), done)
      this.#yielding.add(done)
      this.sink.revoking(sources, deadline).then(done, done)
    })
  }

  async #transact(done: readonly Delivery[], produced: readonly Envelope[]): ReturnType<Transact> {
    if (!this.#context.connected() || this.#state === 'closed') return 'aborted'
    return transact(this.#context, done, produced)
  }
}
