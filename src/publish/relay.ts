import type { Deadline } from '../contract/broker.ts'
import { ClosedError } from '../contract/errors.ts'
import type { EventType } from '../contract/events.ts'
import { timeoutOption } from '../contract/option.ts'
import { UuidSource } from '../contract/uuid.ts'
import { Emitter, type Listener } from '../observe/emitter.ts'
import { logEvents } from '../observe/logging.ts'
import { withDeadline } from '../policy/deadline.ts'
import { Wake } from '../policy/wake.ts'
import { Dispatcher } from '../send/deliver.ts'
import { openStore } from '../send/open-store.ts'
import { Session } from '../send/session.ts'
import { Completions } from './completions.ts'
import { DeclaredTopics } from './declared-topics.ts'
import { LeaseKeeper } from './lease-keeper.ts'
import { Leases } from './leases.ts'
import { Promoter } from './promoter.ts'
import type { TimeoutOptions } from './publisher.ts'
import { RelayPump } from './relay-pump.ts'
import { RelayRows } from './relay-rows.ts'
import {
  resolveRelayOptions,
  type RelayOptions,
  type ResolvedRelayOptions,
} from './relay-options.ts'
import { Steady } from './steady.ts'

/** What a relay does at the moment. */
export type RelayState = 'new' | 'running' | 'draining' | 'closed'

/** One try of a call to the store may take this long, or a third of a lease if that is less. */
const STORE_TIMEOUT_MS = 10_000
/** Longest wait before rows that another process scheduled are looked for. */
const SCHEDULE_POLL_MS = 1_000
/** Part of the time to close that sending may use; the rest is for giving back. */
const SENT_IN_CLOSE = 0.6

/**
 * Moves the rows of an outbox to the broker and deletes each only after its confirm. Any number of
 * relays share the work by leases on buckets of rows; rows of one key stay in order, also when a
 * relay dies. A broker that is away costs no attempts and bounded memory; a message it will never
 * take is parked in `holdfast_outbox_dead`.
 */
export class OutboxRelay<Tx = unknown> implements AsyncDisposable {
  readonly #options: ResolvedRelayOptions<Tx>
  readonly #emitter: Emitter
  readonly #session: Session
  readonly #dispatcher: Dispatcher<unknown>
  readonly #leases: Leases
  readonly #rows: RelayRows
  readonly #stop = new AbortController()
  readonly #steady: Steady
  readonly #completions: Completions
  readonly #pump: RelayPump
  readonly #keeper: LeaseKeeper
  readonly #promoter: Promoter
  readonly #progress: Wake
  #state: RelayState = 'new'
  #starting: Promise<void> | null = null
  #loops: Promise<unknown> = Promise.resolve()
  #stopNudges: () => void = () => undefined
  #closing: Promise<void> | null = null

  /** Does no I/O. Throws an `OptionError` with name, value and range of an option that is wrong. */
  constructor(options: RelayOptions<Tx>) {
    const resolved = resolveRelayOptions(options)
    const { broker, clock, random, crash, leaseMs, inFlight } = resolved
    this.#options = resolved
    this.#emitter = new Emitter(resolved.on)
    logEvents(this.#emitter, resolved.logging)
    const { emit } = this.#emitter
    this.#session = Session.join(broker, { clock, random, crash, emit })
    this.#progress = new Wake(clock)
    this.#leases = new Leases(clock, leaseMs)
    this.#rows = new RelayRows(inFlight, () => {
      this.#progress.ring()
      this.#pump.ringIfStarved()
    })
    const timeoutMs = Math.min(STORE_TIMEOUT_MS, leaseMs / 3)
    this.#steady = new Steady({ clock, random, emit, timeoutMs, signal: this.#stop.signal })
    this.#dispatcher = this.#newDispatcher()
    this.#completions = this.#newCompletions()
    this.#pump = this.#newPump()
    this.#keeper = this.#newKeeper()
    this.#promoter = this.#newPromoter()
  }

  get state(): RelayState {
    return this.#state
  }

  /** Adds a listener, for all events or for those named; returns how to remove it. */
  on(listener: Listener, types?: readonly EventType[]): () => void {
    return this.#emitter.on(listener, types)
  }

  /**
   * Opens the outbox and begins to move rows as soon as the broker is there. Rejects when the outbox
   * cannot be opened, or with a `ClosedError` after `close`. Idempotent.
   */
  start(): Promise<void> {
    if (this.#closing !== null) return Promise.reject(new ClosedError('relay'))
    if (this.#starting === null) {
      const starting = this.#start()
      this.#starting = starting
      // A failed start may be tried again.
      starting.catch(() => void (this.#starting = null))
    }
    return this.#starting
  }

  /** Reads no more, ends what is in flight, gives the leases back and closes. Idempotent. */
  drain(options: TimeoutOptions = {}): Promise<void> {
    const ms = timeoutOption('drain', options, 30_000)
    this.#closing ??= this.#drain(this.#options.clock.now() + ms, ms)
    return this.#closing
  }

  /** Stops: rows that were not sent stay in the outbox, and so do those not confirmed in time. Idempotent. */
  close(options: TimeoutOptions = {}): Promise<void> {
    const ms = timeoutOption('close', options, 10_000)
    this.#closing ??= this.#close(this.#options.clock.now() + ms, ms)
    return this.#closing
  }

  /** `drain`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.drain()
  }

  async #start(): Promise<void> {
    const { outbox, clock, crash } = this.#options
    await openStore(outbox, { clock, crash, emit: this.#emitter.emit })
    if (this.#closing !== null) throw new ClosedError('relay')
    this.#state = 'running'
    this.#stopNudges = outbox.onAppended(() => {
      this.#pump.ring()
      this.#promoter.ring()
    })
    this.#dispatcher.open()
    this.#loops = Promise.all([this.#keeper.run(), this.#pump.run(), this.#promoter.run()])
  }

  async #drain(deadline: Deadline, ms: number): Promise<void> {
    this.#beginStop()
    const { clock } = this.#options
    const until = deadline - ms * (1 - SENT_IN_CLOSE)
    while (this.#rows.size > 0 && clock.now() < until) {
      await this.#progress.sleep(until - clock.now())
    }
    await this.#end(deadline)
  }

  async #close(deadline: Deadline, ms: number): Promise<void> {
    this.#beginStop()
    await this.#dispatcher.close(deadline - ms * (1 - SENT_IN_CLOSE))
    await this.#end(deadline)
  }

  #beginStop(): void {
    this.#state = 'draining'
    this.#stopNudges()
    this.#pump.stop()
    this.#options.crash.at('during_shutdown')
  }

  /** Rows that are confirmed are still deleted, so that the next relay does not send them again. */
  async #end(deadline: Deadline): Promise<void> {
    const { clock, outbox } = this.#options
    await this.#dispatcher.close(Math.min(deadline, clock.now()))
    while (this.#completions.isBusy && clock.now() < deadline) {
      await this.#progress.sleep(deadline - clock.now())
    }
    this.#stop.abort(new ClosedError('relay'))
    this.#ringAll()
    await this.#quietly('shutdown', deadline, () => this.#loops)
    await this.#quietly('lease', deadline, () => this.#keeper.ended())
    const held = this.#leases.all()
    if (held.length > 0) await this.#quietly('release', deadline, () => outbox.release(held))
    await this.#quietly('close', deadline, () => this.#session.leave(deadline))
    this.#state = 'closed'
  }

  #ringAll(): void {
    this.#keeper.ring()
    this.#pump.ring()
    this.#promoter.ring()
  }

  /** What fails on the way out is told and does not keep the rest from closing. */
  async #quietly(step: string, deadline: Deadline, work: () => Promise<unknown>): Promise<void> {
    const { clock } = this.#options
    try {
      await withDeadline(clock, Math.max(deadline, clock.now() + 1), work, step)
    } catch (error) {
      this.#emitter.emit({ type: 'relay.error', step, error: error as Error })
    }
  }

  #newDispatcher(): Dispatcher<unknown> {
    const { clock, random, crash, breaker, topics, topology, sendTimeoutMs } = this.#options
    const declared = new DeclaredTopics(topics, topology)
    return new Dispatcher<unknown>({
      session: this.#session,
      purpose: 'relay',
      result: () => undefined,
      clock,
      random,
      emit: this.#emitter.emit,
      deadlineMs: sendTimeoutMs,
      breaker,
      prepare: (topic, first) => declared.prepare(topic, first, this.#session),
      // A row given up is read again before its followers, so none of them may go before it.
      followers: 'refuse',
      handedOver: (last) => {
        crash.at('after_send_some')
        if (last) crash.at('after_send_all')
      },
      changed: () => this.#pump.ring(),
    })
  }

  #newCompletions(): Completions {
    const { outbox: store, clock, crash } = this.#options
    return new Completions({
      store,
      leases: this.#leases,
      steady: this.#steady,
      clock,
      crash,
      emit: this.#emitter.emit,
      done: (rows, fenced) => {
        for (const row of rows) {
          if (fenced) this.#rows.giveBack(row)
          else this.#rows.remove(row)
        }
      },
    })
  }

  #newPump(): RelayPump {
    const { outbox: store } = this.#options
    return new RelayPump({
      ...this.#options,
      store,
      leases: this.#leases,
      rows: this.#rows,
      completions: this.#completions,
      dispatcher: this.#dispatcher,
      steady: this.#steady,
    })
  }

  #newKeeper(): LeaseKeeper {
    const { outbox: store, clock, random, crash, leaseMs: ttlMs } = this.#options
    return new LeaseKeeper({
      store,
      owner: new UuidSource(clock, random).next(),
      ttlMs,
      leases: this.#leases,
      steady: this.#steady,
      clock,
      crash,
      emit: this.#emitter.emit,
      isUsed: (bucket) => this.#rows.inBucket(bucket) > 0,
      changed: (lost) => {
        if (lost.length > 0) this.#pump.lost(lost)
        this.#pump.ringIfStarved()
        this.#promoter.ring()
      },
    })
  }

  #newPromoter(): Promoter {
    const { outbox: store, clock, batchSize } = this.#options
    return new Promoter({
      store,
      leases: this.#leases,
      steady: this.#steady,
      clock,
      batchSize,
      pollMs: SCHEDULE_POLL_MS,
      moved: () => this.#pump.ring(),
    })
  }
}
