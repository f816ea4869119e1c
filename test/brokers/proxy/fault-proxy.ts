import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'

import { Link, type Shared, type Target } from './link.ts'
import { healthyLine, type Line } from './pipe.ts'
import { Fault, Rule, Rules, type Action, type Direction, type Match } from './rules.ts'

export type { Target } from './link.ts'
export { Fault, type Action, type Direction, type Match, type Seen } from './rules.ts'

/** How a proxy is made. */
export interface ProxyOptions {
  /** Asked for every connection, so that a broker may come back elsewhere. */
  readonly target: () => Target
  /** `bytes` moves anything and knows no frames. Default `amqp`. */
  readonly protocol?: 'amqp' | 'bytes'
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
 * A TCP proxy on this machine that breaks connections on purpose: all of them alike, or single
 * frames by rule. Every fault counts how often it struck, since a fault that never happened has
 * shown nothing.
 */
export class FaultProxy {
  readonly #options: ProxyOptions
  readonly #server: Server
  readonly #links = new Set<Link>()
  readonly #silent = new Set<Socket>()
  readonly #cuts = new Set<Cut>()
  readonly #shared: Shared
  #welcome: { readonly how: Welcome; readonly fault: Fault | null } = { how: 'broker', fault: null }
  #made = 0

  private constructor(options: ProxyOptions) {
    this.#options = options
    this.#shared = {
      lines: { up: healthyLine(), down: healthyLine() },
      dropping: { up: null, down: null },
      rules: new Rules(),
      protocol: options.protocol ?? 'amqp',
      alarm: null,
    }
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (client) =>
      this.#accept(client),
    )
  }

  /** Listens on a free port of the loopback interface. */
  static async start(options: ProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options)
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject).listen(0, '127.0.0.1', resolve)
    })
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Connections that are open now. */
  get links(): readonly Link[] {
    return [...this.#links]
  }

  /** The next `count` frames that match are struck. Default: every one until healed. */
  rule(match: Match, action: Action, count: number = Infinity): Fault {
    const fault = this.#fault(action.do, () => {
      this.#shared.rules.remove(rule)
      for (const { session } of this.#links) session?.release(rule)
    })
    const rule = new Rule(fault, match, action, count)
    this.#shared.rules.add(rule)
    return fault
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
    const fault = this.#fault('drop', () => {
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
  reset(matches: (link: Link) => boolean = () => true): number {
    const struck = this.links.filter(matches)
    for (const link of struck) link.reset()
    for (let n = 0; n < struck.length; n++) this.#options.onFired?.('reset')
    return struck.length
  }

  /** The next `count` connections, those that are open first, are reset after that many bytes. */
  cutAfter(direction: Direction, bytes: number, count: number = 1): Fault {
    const fault = this.#fault('cut', () => {
      this.#cuts.delete(cut)
    })
    const cut: Cut = { direction, bytes, fault, left: count }
    this.#cuts.add(cut)
    for (const link of this.#links) this.#arm(link, cut)
    return fault
  }

  /** Connections that publish are told that the broker takes nothing, as in an alarm; until healed. */
  blockPublishers(reason: string = 'low on memory'): Fault {
    const fault = this.#fault('blocked', () => {
      this.#shared.alarm = null
      for (const { session } of this.#links) session?.block(null)
    })
    this.#shared.alarm = { reason, told: () => fault.strike() }
    for (const { session } of this.#links) session?.block(this.#shared.alarm)
    return fault
  }

  /** Closes the channels that consume a matching queue, as a broker does after an error; returns how many. */
  closeConsumers(matches: (queue: string) => boolean, code = 541, text = 'INTERNAL_ERROR'): number {
    let count = 0
    for (const { session } of this.#links) {
      count += session?.closeChannels(({ queues }) => queues.some(matches), code, text) ?? 0
    }
    for (let n = 0; n < count; n++) this.#options.onFired?.('close-channel')
    return count
  }

  /** Resets everything and stops listening. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const link of this.#links) link.reset()
    for (const socket of this.#silent) socket.destroy()
    await closed
  }

  #fault(name: string, heal: () => void): Fault {
    return new Fault(name, heal, this.#options.onFired ?? (() => undefined))
  }

  /** A fault of whole directions; one of a kind per direction, and one that counts. */
  #lineFault(
    name: string,
    directions: readonly Direction[],
    set: (line: Line, on: boolean) => void,
  ): Fault {
    const lines = directions.map((direction) => this.#shared.lines[direction])
    const fault = this.#fault(name, () => {
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
    const fault = this.#fault(how, () => {
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
    const link: Link = new Link(id, client, this.#options.target(), this.#shared, () => {
      this.#links.delete(link)
    })
    this.#links.add(link)
    for (const cut of this.#cuts) this.#arm(link, cut)
  }

  #ignore(client: Socket): void {
    this.#silent.add(client)
    client.resume()
    client.on('close', () => this.#silent.delete(client))
  }

  #arm(link: Link, cut: Cut): void {
    if (cut.left === 0) return
    cut.left--
    link.cutAfter(cut.direction, cut.bytes, () => cut.fault.strike())
  }
}
