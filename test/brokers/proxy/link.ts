import { connect, type Socket } from 'node:net'

import { Pipe, type Line } from './pipe.ts'
import type { Direction, Fault } from './rules.ts'

/** Where the proxy leads. */
export interface Target {
  readonly host: string
  readonly port: number
}

/** What all connections of a proxy have in common. */
export interface Shared {
  readonly lines: Readonly<Record<Direction, Line>>
  /** Set while a direction loses everything. */
  readonly dropping: Record<Direction, Fault | null>
}

/** Where a session's frames and verdicts go. */
export interface Way {
  out(direction: Direction, bytes: Buffer): void
  reset(): void
}

/** Reads both directions of one connection as a protocol, and decides what of it goes on. */
export interface Session {
  /** Throws when the bytes are not of its protocol. */
  take(direction: Direction, chunk: Buffer): void
  stop(): void
}

/** What a connection is made of. */
export interface LinkParts<S> {
  readonly client: Socket
  readonly target: Target
  readonly shared: Shared
  /** Null for a connection that only moves bytes. */
  readonly begin: (way: Way) => S | null
  readonly closed: () => void
}

/** One connection through the proxy. */
export class Link<S extends Session> {
  readonly id: number
  /** Null for a connection that only moves bytes. */
  readonly session: S | null
  readonly #shared: Shared
  readonly #client: Socket
  readonly #broker: Socket
  readonly #pipes: Readonly<Record<Direction, Pipe>>
  readonly #closed: () => void
  #isOpen = true

  constructor(id: number, { client, target, shared, begin, closed }: LinkParts<S>) {
    this.id = id
    this.#shared = shared
    this.#client = client
    this.#closed = closed
    this.#broker = connect({ ...target, noDelay: true, allowHalfOpen: true })
    this.#pipes = {
      up: new Pipe(client, this.#broker, shared.lines.up),
      down: new Pipe(this.#broker, client, shared.lines.down),
    }
    this.session = begin({
      out: (direction, bytes) => this.#out(direction, bytes),
      reset: () => this.reset(),
    })
    this.#listen('up', client)
    this.#listen('down', this.#broker)
  }

  /** Both sides find the connection reset. */
  reset(): void {
    if (!this.#isOpen) return
    this.#end()
    this.#client.resetAndDestroy()
    this.#broker.resetAndDestroy()
  }

  /** Ends one direction; the other one goes on. */
  halfClose(direction: Direction): void {
    this.#pipes[direction].finish(() => this.#sink(direction).end())
  }

  /** The connection is reset once that many more bytes have arrived. */
  cutAfter(direction: Direction, bytes: number, onCut: () => void): void {
    this.#pipes[direction].cutAfter(bytes, () => {
      if (!this.#isOpen) return
      this.reset()
      onCut()
    })
  }

  /** Goes on, with the lines as they are now. */
  wake(): void {
    this.#pipes.up.wake()
    this.#pipes.down.wake()
  }

  #sink(direction: Direction): Socket {
    return direction === 'up' ? this.#broker : this.#client
  }

  #listen(direction: Direction, from: Socket): void {
    from.on('data', (chunk: Buffer) => this.#take(direction, chunk))
    from.on('end', () => this.halfClose(direction))
    from.on('error', () => this.reset())
    from.on('close', () => this.#fromClosed(direction))
  }

  #take(direction: Direction, chunk: Buffer): void {
    if (this.session === null) return this.#out(direction, chunk)
    try {
      this.session.take(direction, chunk)
    } catch (error) {
      process.emitWarning(error as Error)
      this.reset()
    }
  }

  #out(direction: Direction, bytes: Buffer): void {
    const { [direction]: fault } = this.#shared.dropping
    if (fault === null) this.#pipes[direction].push(bytes)
    else fault.strike()
  }

  /** What one side sent before it went away still has to arrive. */
  #fromClosed(direction: Direction): void {
    if (!this.#isOpen) return
    const other = this.#sink(direction)
    this.#pipes[direction].finish(() => {
      this.#end()
      other.destroySoon()
      this.#sink(direction === 'up' ? 'down' : 'up').destroy()
    })
  }

  #end(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#pipes.up.stop()
    this.#pipes.down.stop()
    this.session?.stop()
    this.#closed()
  }
}
