import { connect, type Socket } from 'node:net'

import { AmqpSession, type Alarm } from './amqp-session.ts'
import { Pipe, type Line } from './pipe.ts'
import type { Direction, Fault, Rules } from './rules.ts'

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
  readonly rules: Rules
  readonly protocol: 'amqp' | 'bytes'
  /** Set while publishing connections are told to stop. */
  alarm: Alarm | null
}

/** One connection through the proxy. */
export class Link {
  readonly id: number
  /** Null for a connection that only moves bytes. */
  readonly session: AmqpSession | null
  readonly #shared: Shared
  readonly #client: Socket
  readonly #broker: Socket
  readonly #pipes: Readonly<Record<Direction, Pipe>>
  readonly #closed: () => void
  #isOpen = true

  constructor(id: number, client: Socket, target: Target, shared: Shared, closed: () => void) {
    this.id = id
    this.#shared = shared
    this.#client = client
    this.#closed = closed
    this.#broker = connect({ ...target, noDelay: true, allowHalfOpen: true })
    this.#pipes = {
      up: new Pipe(client, this.#broker, shared.lines.up),
      down: new Pipe(this.#broker, client, shared.lines.down),
    }
    this.session = shared.protocol === 'amqp' ? this.#makeSession() : null
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

  #makeSession(): AmqpSession {
    const out = (direction: Direction, bytes: Buffer): void => this.#out(direction, bytes)
    return new AmqpSession(
      { out, reset: () => this.reset() },
      this.#shared.rules,
      this.#shared.alarm,
    )
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
