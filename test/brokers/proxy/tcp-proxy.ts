import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

import { Link, type Session, type Shared, type Target, type Way } from './link.ts'
import { healthyLine, type Line } from './pipe.ts'
import { Fault, type Direction } from './rules.ts'

/** How a proxy is made. */
export interface ProxyOptions {
  /** Asked for every connection, so that a broker may come back elsewhere. */
  readonly target: () => Target
  /** Told of every firing, for a history. */
  readonly onFired?: (name: string) => void
}

/** What a new connection meets: `silence` accepts it and never answers, `reset` ends it at once. */
type Welcome = 'broker' | 'silence' | 'reset'

interface Cut {
  readonly direction: Direction
  readonly bytes: number
  readonly fault: Fault
  left: number
}

/**
 * A TCP proxy on this machine that breaks connections on purpose, all of them alike; what knows a
 * protocol strikes single frames as well. Every fault counts how often it struck, since a fault that
 * never happened has shown nothing.
 */
export abstract class TcpProxy<S extends Session> {
  readonly #options: ProxyOptions
  readonly #begin: (way: Way) => S | null
  readonly #server: Server
  readonly #links = new Set<Link<S>>()
  readonly #silent = new Set<Socket>()
  readonly #cuts = new Set<Cut>()
  readonly #shared: Shared
  #welcome: { readonly how: Welcome; readonly fault: Fault | null } = { how: 'broker', fault: null }
  #made = 0

  protected constructor(options: ProxyOptions, begin: (way: Way) => S | null) {
    this.#options = options
    this.#begin = begin
    this.#shared = {
      lines: { up: healthyLine(), down: healthyLine() },
      dropping: { up: null, down: null },
    }
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (client) =>
      this.#accept(client),
    )
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Connections that are open now. */
  get links(): readonly Link<S>[] {
    return [...this.#links]
  }

  /** Everything arrives that much later, in milliseconds. */
  delay(direction: Direction, ms: number): Fault {
    return this.#lineFault('delay', [direction], (line, on) => {
      line.delayMs = on ? ms : 0
    })
  }

  /** At most that many bytes per second and connection, down to 1. */
  throttle(direction: Direction, bytesPerSecond: number): Fault {
    return this.#lineFault('throttle', [direction], (line, on) => {
      line.bytesPerSecond = on ? bytesPerSecond : Infinity
    })
  }

  /** What is sent in this direction is lost, and nobody is told; whole frames where they are known. */
  drop(direction: Direction): Fault {
    const fault = this.fault('drop', () => {
      this.#shared.dropping[direction] = null
    })
    this.#shared.dropping[direction] = fault
    return fault
  }

  /** Nothing arrives, either way or the one named; healed, it all arrives. */
  blackHole(...directions: readonly Direction[]): Fault {
    const struck = directions.length === 0 ? (['up', 'down'] as const) : directions
    return this.#lineFault('black hole', struck, (line, on) => {
      line.isHeld = on
    })
  }

  /** New connections are accepted, and nobody ever answers them. */
  halfOpen(): Fault {
    return this.#welcomeWith('silence')
  }

  /** New connections are reset at once. */
  refuse(): Fault {
    return this.#welcomeWith('reset')
  }

  /** Resets every connection, or those that match; returns how many. */
  reset(matches: (link: Link<S>) => boolean = () => true): number {
    const struck = this.links.filter(matches)
    for (const link of struck) link.reset()
    for (let n = 0; n < struck.length; n++) this.fired('reset')
    return struck.length
  }

  /** The next `count` connections, those that are open first, are reset after that many bytes. */
  cutAfter(direction: Direction, bytes: number, count: number = 1): Fault {
    const fault = this.fault('cut', () => {
      this.#cuts.delete(cut)
    })
    const cut: Cut = { direction, bytes, fault, left: count }
    this.#cuts.add(cut)
    for (const link of this.#links) this.#arm(link, cut)
    return fault
  }

  /** Resets everything and stops listening. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const link of this.#links) link.reset()
    for (const socket of this.#silent) socket.destroy()
    await closed
  }

  /** Listens on a port of the loopback interface; 0: a free one. */
  protected async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(port, '127.0.0.1', resolve)
    })
  }

  protected fault(name: string, heal: () => void): Fault {
    return new Fault(name, heal, (fired) => this.fired(fired))
  }

  protected fired(name: string): void {
    this.#options.onFired?.(name)
  }

  /** A fault of whole directions; one of a kind per direction, and one that counts. */
  #lineFault(
    name: string,
    directions: readonly Direction[],
    set: (line: Line, on: boolean) => void,
  ): Fault {
    const lines = directions.map((direction) => this.#shared.lines[direction])
    const fault = this.fault(name, () => {
      for (const line of lines) {
        set(line, false)
        line.onPassing = null
      }
      for (const link of this.#links) link.wake()
    })
    for (const line of lines) {
      set(line, true)
      line.onPassing = () => fault.strike()
    }
    return fault
  }

  #welcomeWith(how: Welcome): Fault {
    const fault = this.fault(how, () => {
      this.#welcome = { how: 'broker', fault: null }
    })
    this.#welcome = { how, fault }
    return fault
  }

  #accept(client: Socket): void {
    this.#welcome.fault?.strike()
    client.on('error', () => client.destroy())
    if (this.#welcome.how === 'reset') {
      client.resetAndDestroy()
      return
    }
    if (this.#welcome.how === 'silence') return this.#ignore(client)
    const id = ++this.#made
    const link: Link<S> = new Link(id, {
      client,
      target: this.#options.target(),
      shared: this.#shared,
      begin: this.#begin,
      closed: () => this.#links.delete(link),
    })
    this.#links.add(link)
    for (const cut of this.#cuts) this.#arm(link, cut)
  }

  #ignore(client: Socket): void {
    this.#silent.add(client)
    client.resume()
    client.on('close', () => this.#silent.delete(client))
  }

  #arm(link: Link<S>, cut: Cut): void {
    if (cut.left === 0) return
    cut.left--
    link.cutAfter(cut.direction, cut.bytes, () => cut.fault.strike())
  }
}
