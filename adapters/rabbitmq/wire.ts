import type { Deadline } from '../../src/contract/broker.ts'
import type { Clock } from '../../src/contract/clock.ts'
import { ClosedError, HoldfastError, isHoldfastError } from '../../src/contract/errors.ts'
import { withDeadline } from '../../src/policy/deadline.ts'
import type { Version } from './capabilities.ts'
import { partsOf, type Channel, type ChannelModel, type ConfirmChannel } from './client.ts'

/** One live connection. It never comes back: whoever needs another opens another. */
export interface Wire {
  /** Grows with each connection of one broker object. */
  readonly generation: number
  /** Without credentials. */
  readonly url: string
  readonly version: Version
  readonly isOpen: boolean
  /** Why the broker asked us to stop writing; `null` when it does not. */
  readonly blocked: string | null
  /** A plain channel, with listeners that keep its errors from ending the process. */
  channel(deadline: Deadline): Promise<Channel>
  /** A channel on which every publish is confirmed. */
  confirmChannel(deadline: Deadline): Promise<ConfirmChannel>
  /**
   * One round trip, `rpcTimeoutMs` at most unless told otherwise; when it is not answered by then, the
   * connection is destroyed, since nobody knows any more what the next answer belongs to. Rejects with
   * code `timeout` then, with `connection-lost` when the wire is gone, and with amqplib's own error for
   * what the broker refuses.
   */
  rpc<T>(what: string, work: () => Promise<T>, deadline?: Deadline): Promise<T>
  /** Told once, whatever the cause, at once when it is closed already. Returns how to stop listening. */
  onClose(listener: (error: HoldfastError) => void): () => void
  /** Told on every change. Returns how to stop listening. */
  onBlocked(listener: (reason: string | null) => void): () => void
  /** At once: listeners are told before it returns, nothing more is written. */
  destroy(error?: Error): void
  /** Says goodbye, and destroys it when that takes longer than the deadline. Never rejects. */
  close(deadline: Deadline): Promise<void>
}

/** What a wire is made of. */
export interface WireParts {
  readonly model: ChannelModel
  readonly generation: number
  readonly url: string
  readonly clock: Clock
  readonly rpcTimeoutMs: number
  /** Ends the socket without a word, which amqplib itself never does. */
  readonly destroySocket: () => void
}

/** A wire over an amqplib connection. Made in the same turn in which amqplib hands the connection over. */
export class AmqpWire implements Wire {
  readonly generation: number
  readonly url: string
  readonly version: Version
  readonly #parts: WireParts
  readonly #closeListeners = new Set<(error: HoldfastError) => void>()
  readonly #blockedListeners = new Set<(reason: string | null) => void>()
  #blocked: string | null = null
  #closed: HoldfastError | null = null
  /** What amqplib said before it closed: the better reason of the two. */
  #lastError: Error | null = null

  constructor(parts: WireParts) {
    const { model, generation, url } = parts
    this.#parts = parts
    this.generation = generation
    this.url = url
    model.on('error', (error) => void (this.#lastError ??= error))
    model.on('close', (error) => this.#end(error ?? this.#lastError))
    model.on('blocked', (reason) => this.#become(reason === '' ? 'alarm' : reason))
    model.on('unblocked', () => this.#become(null))
    onHandlerError(model.connection, (error) => this.destroy(error))
    this.version = versionOf(model)
    // It may have ended in the turn in which it opened, when nobody could listen.
    if (partsOf(model).isOver) this.#end(null)
  }

  get isOpen(): boolean {
    return this.#closed === null
  }

  get blocked(): string | null {
    return this.#blocked
  }

  channel(deadline: Deadline): Promise<Channel> {
    return this.#channel(() => this.#parts.model.createChannel(), deadline)
  }

  confirmChannel(deadline: Deadline): Promise<ConfirmChannel> {
    return this.#channel(() => this.#parts.model.createConfirmChannel(), deadline)
  }

  async rpc<T>(what: string, work: () => Promise<T>, deadline?: Deadline): Promise<T> {
    const { clock, rpcTimeoutMs } = this.#parts
    this.#assertOpen()
    try {
      const until = deadline ?? clock.now() + rpcTimeoutMs
      return await withDeadline(clock, until, () => this.#whileOpen(work), what)
    } catch (error) {
      // What is pending when a connection ends fails with texts of amqplib's that do not say so.
      this.#assertOpen()
      if (isHoldfastError(error) && error.code === 'timeout') this.destroy(error)
      throw error
    }
  }

  onClose(listener: (error: HoldfastError) => void): () => void {
    if (this.#closed !== null) listener(this.#closed)
    else this.#closeListeners.add(listener)
    return () => void this.#closeListeners.delete(listener)
  }

  onBlocked(listener: (reason: string | null) => void): () => void {
    this.#blockedListeners.add(listener)
    return () => void this.#blockedListeners.delete(listener)
  }

  destroy(error?: Error): void {
    this.#end(error ?? null)
  }

  async close(deadline: Deadline): Promise<void> {
    if (this.#closed !== null) return
    const { clock, model, url } = this.#parts
    this.#lastError ??= new ClosedError(`the connection to ${url}`)
    const closing = (): Promise<void> => this.#whileOpen(() => model.close())
    try {
      await withDeadline(clock, deadline, closing, `closing the connection to ${url}`)
    } catch {
      // It ended by itself, or does not answer: either way it is over below.
    } finally {
      this.#end(this.#lastError)
    }
  }

  /** Rejects when the wire ends before the work: some of amqplib's promises are never settled then. */
  #whileOpen<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stopListening = this.onClose(reject)
      work().then(resolve, reject).finally(stopListening)
    })
  }

  async #channel<C extends Channel>(open: () => Promise<C>, deadline: Deadline): Promise<C> {
    const { clock, url } = this.#parts
    const what = `opening a channel to ${url}`
    const opening = this.rpc(what, async () => this.#watched(await open()))
    try {
      return await withDeadline(clock, deadline, () => opening, what)
    } catch (error) {
      // The caller has no more time, the wire has: what comes late must not stay open unused.
      opening.then((late) => late.close()).catch(() => undefined)
      throw error
    }
  }

  /** Without an error listener, a channel's error would end the whole connection. */
  #watched<C extends Channel>(channel: C): C {
    channel.on('error', () => undefined)
    channel.on('handler-error', (error) => this.destroy(error))
    return channel
  }

  #assertOpen(): void {
    if (this.#closed !== null) throw this.#closed
  }

  #become(reason: string | null): void {
    if (this.#closed !== null || reason === this.#blocked) return
    this.#blocked = reason
    for (const listener of [...this.#blockedListeners]) listener(reason)
  }

  #end(cause: Error | null): void {
    if (this.#closed !== null) return
    this.#closed = lost(this.url, cause)
    this.#blocked = null
    this.#parts.destroySocket()
    const listeners = [...this.#closeListeners]
    this.#closeListeners.clear()
    this.#blockedListeners.clear()
    for (const listener of listeners) listener(this.#closed)
  }
}

function lost(url: string, cause: Error | null): HoldfastError {
  if (isHoldfastError(cause) && cause.code === 'closed') return cause
  const why = cause === null ? 'it ended without a word' : cause.message
  return new HoldfastError('connection-lost', `the connection to ${url} was lost: ${why}`, {
    cause: cause ?? undefined,
  })
}

/** amqplib tells of throwing listeners here, and only here; unheard they would end the connection. */
function onHandlerError(connection: unknown, listener: (error: Error) => void): void {
  const { on } = connection as { on?: unknown }
  if (typeof on === 'function') on.call(connection, 'handler-error', listener)
}

function versionOf({ connection }: ChannelModel): Version {
  const [major = 0, minor = 0, patch = 0] = connection.serverProperties.version
    .split(/[.+-]/)
    .map((part) => Number.parseInt(part, 10) || 0)
  return [major, minor, patch]
}
