import { ClosedError, type HoldfastError } from '../contract/errors.ts'
import type { Emit } from '../contract/events.ts'
import { timeoutOption } from '../contract/option.ts'
import { Emitter } from '../observe/emitter.ts'
import { logEvents } from '../observe/logging.ts'
import { withDeadline } from '../policy/deadline.ts'
import { decide } from './decide.ts'
import { asError, tellBreaker } from './failure.ts'
import type { Held } from './held.ts'
import { openAll } from './open.ts'
import type { BatchOptions, Consumed, ConsumerOptions, SingleOptions } from './options.ts'
import { DEFERRED } from './outcome.ts'
import type { Parts, Steps } from './parts.ts'
import { Pauses } from './pauses.ts'
import { type GivenOptions, resolveOptions, type Settings } from './settings.ts'
import { type Live, ShutDown } from './shut-down.ts'
import { startUp } from './start-up.ts'
import type { Eventually } from './value-or-promise.ts'

/** Bound of a call that waits. */
export interface WithinOptions {
  /** In milliseconds. */
  readonly timeoutMs?: number
}

/** Where a consumer is in its life; each state has what only it needs. */
type State =
  | { readonly name: 'idle' }
  | {
      readonly name: 'starting'
      readonly started: Promise<void>
      readonly stopping: AbortController
    }
  | { readonly name: 'running'; readonly live: Live }
  | { readonly name: 'stopping'; readonly shutDown: ShutDown | null; readonly done: Promise<void> }
  | { readonly name: 'closed' }

/** How long ending takes at most when nobody said. */
const END_MS = 5_000

/**
 * Receives the messages of one or several topics for a group and hands them to a handler. A delivery
 * is acknowledged only after its effect is committed, or it was a duplicate, or it was stored
 * elsewhere (retry, dead letter) and that was confirmed. Messages of one key are handled one at a time
 * and in order, also while one of them is retried.
 */
export class ReliableConsumer<T extends Consumed = Consumed, Tx = never> {
  /** Resolves when it has ended: with the error that ended it, or with nothing after drain or close. */
  readonly closed: Promise<HoldfastError | undefined>
  readonly #settings: Settings
  readonly #emit: Emit
  readonly #pauses = new Pauses()
  readonly #steps: Steps = {
    process: (parts, slice, generation) => this.#process(parts, slice, generation),
    broken: (parts, slice, thrown) => this.#broken(parts, slice, thrown),
    ended: (error) => this.#ended(error),
  }
  #state: State = { name: 'idle' }
  #resolveClosed: (error: HoldfastError | undefined) => void = () => undefined

  /** Throws an `OptionError` or a `CapabilityError` for what is not allowed. Does no I/O. */
  constructor(options: SingleOptions<T, Tx>)
  /** With `batch`, the handler gets several messages at a time. */
  constructor(options: BatchOptions<T, Tx>)
  /** Either of them, for those who pass options on. */
  constructor(options: ConsumerOptions<T, Tx>)
  constructor(options: ConsumerOptions<T, Tx>) {
    const given = options as unknown as GivenOptions
    this.#settings = resolveOptions(given)
    const emitter = new Emitter(given.on)
    logEvents(emitter, given.logging)
    this.#emit = emitter.emit
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
  }

  get state(): State['name'] {
    return this.#state.name
  }

  /**
   * Opens the broker, declares what is needed and begins to receive. Rejects with a `CapabilityError`
   * for what the broker does not offer, with code `timeout` when it cannot be reached within
   * `timeoutMs` (default 30 000), and then may be called again; with a `ClosedError` after drain or close.
   */
  start(options: WithinOptions = {}): Promise<void> {
    const withinMs = timeoutOption('start', options, 30_000, 1)
    switch (this.#state.name) {
      case 'idle':
        return this.#start(withinMs)
      case 'starting':
        return this.#state.started
      case 'running':
        return Promise.resolve()
      case 'stopping':
      case 'closed':
        return Promise.reject(new ClosedError('the consumer'))
    }
  }

  /** Nothing is received and no handler starts until `resume`; what is held stays held. Also before start. */
  pause(): void {
    this.#pauses.hold('user')
    if (this.#state.name === 'running') this.#state.live.parts.pump.shut()
  }

  /** Goes on where `pause` stopped. */
  resume(): void {
    this.#pauses.lift('user')
    if (this.#state.name === 'running') this.#state.live.parts.pump.open()
  }

  /**
   * Ends in order: nothing starts any more, handlers finish (those that do not are aborted in time),
   * what has not started goes back, settles are flushed. Resolves within `timeoutMs` (default 30 000).
   */
  drain(options: WithinOptions = {}): Promise<void> {
    return this.#stop(timeoutOption('drain', options, 30_000), true)
  }

  /** Ends now: handlers are aborted, what is held goes back. Resolves within `timeoutMs` (default 5 000). */
  close(options: WithinOptions = {}): Promise<void> {
    return this.#stop(timeoutOption('close', options, END_MS), false)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.drain()
  }

  /**
   * One delivery for handlers of single messages; more for batches and transactions. Its steps follow
   * one another as methods: a function made for what comes next would be made for every message.
   */
  #process(parts: Parts, slice: readonly Held[], generation: number): Eventually<void> {
    const opened = openAll(slice, parts.opening)
    if (opened instanceof Promise) return opened.then(() => this.#count(parts, slice, generation))
    return this.#count(parts, slice, generation)
  }

  #count(parts: Parts, slice: readonly Held[], generation: number): Eventually<void> {
    const counted = parts.starts?.count(slice)
    if (counted instanceof Promise) return counted.then(() => this.#claim(parts, slice, generation))
    return this.#claim(parts, slice, generation)
  }

  #claim(parts: Parts, slice: readonly Held[], generation: number): Eventually<void> {
    const handled = parts.claims.run(slice, parts.work)
    if (handled instanceof Promise)
      return handled.then(() => this.#settle(parts, slice, generation))
    return this.#settle(parts, slice, generation)
  }

  #settle(
    { breaker, settler, starts, terms }: Parts,
    slice: readonly Held[],
    generation: number,
  ): void {
    const { random } = this.#settings
    for (const held of slice) {
      const outcome = held.outcome ?? DEFERRED
      held.breakerOpen = breaker !== null && breaker.state !== 'closed'
      settler.settle(held, decide(outcome, held, terms, random))
      starts?.ended(held)
      if (breaker !== null) tellBreaker(breaker, outcome, generation)
    }
  }

  /** A mistake of ours: what the slice held stays held and is tried again. */
  #broken(parts: Parts, slice: readonly Held[], thrown: unknown): void {
    const error = asError(thrown)
    this.#emit({ type: 'warning', code: 'internal', message: `consuming failed: ${error.message}` })
    for (const held of slice) {
      parts.starts?.ended(held)
      if (held.place === 'running') parts.settler.keepHeld(held)
    }
  }

  #start(withinMs: number): Promise<void> {
    const stopping = new AbortController()
    const started = this.#startBy(this.#settings.clock.now() + withinMs, stopping)
    this.#state = { name: 'starting', started, stopping }
    return started
  }

  async #startBy(deadline: number, stopping: AbortController): Promise<void> {
    const around = { settings: this.#settings, emit: this.#emit, pauses: this.#pauses, stopping }
    try {
      const live = await startUp({ ...around, steps: this.#steps }, deadline)
      if (this.#state.name !== 'starting') await this.#undo(live)
      this.#state = { name: 'running', live }
      live.parts.aging.start()
      if (!this.#pauses.has('user')) live.parts.pump.open()
    } catch (error) {
      if (this.#state.name === 'starting') this.#state = { name: 'idle' }
      throw error
    }
  }

  /** It was stopped when all was open already, so that nothing else closes it. */
  async #undo(live: Live): Promise<never> {
    const shutDown = new ShutDown(live, this.#settings.clock.now() + END_MS)
    shutDown.hurry(Number.POSITIVE_INFINITY)
    await shutDown.run()
    throw new ClosedError('the consumer')
  }

  #stop(withinMs: number, finish: boolean, error?: HoldfastError): Promise<void> {
    const deadline = this.#settings.clock.now() + withinMs
    const state = this.#state
    switch (state.name) {
      case 'idle':
        this.#closed(error)
        return Promise.resolve()
      case 'starting':
        return this.#stopStarting(state, deadline, error)
      case 'running':
        return this.#stopRunning(new ShutDown(state.live, deadline), finish, error)
      case 'stopping':
        if (!finish) state.shutDown?.hurry(deadline)
        return state.done
      case 'closed':
        return Promise.resolve()
    }
  }

  #stopStarting(
    { started, stopping }: Extract<State, { readonly name: 'starting' }>,
    deadline: number,
    error: HoldfastError | undefined,
  ): Promise<void> {
    const { clock } = this.#settings
    // Whoever called start() is told what became of it.
    const given = (): Promise<void> => started.catch(() => undefined)
    const done = withDeadline(clock, deadline, given, 'giving up the start')
      .catch(() => undefined)
      .then(() => this.#closed(error))
    this.#state = { name: 'stopping', shutDown: null, done }
    stopping.abort(error ?? new ClosedError('the consumer'))
    return done
  }

  #stopRunning(
    shutDown: ShutDown,
    finish: boolean,
    error: HoldfastError | undefined,
  ): Promise<void> {
    if (!finish) shutDown.hurry(Number.POSITIVE_INFINITY)
    const done = shutDown.run().then(() => this.#closed(error))
    this.#state = { name: 'stopping', shutDown, done }
    return done
  }

  /** The receiver says so; expected while stopping. */
  #ended(error: HoldfastError | undefined): void {
    if (this.#state.name === 'stopping' || this.#state.name === 'closed') return
    void this.#stop(END_MS, false, error)
  }

  #closed(error: HoldfastError | undefined): void {
    this.#state = { name: 'closed' }
    const { group } = this.#settings
    this.#emit({ type: 'consumer.ended', group, error: error ?? null })
    this.#resolveClosed(error)
  }
}
