import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** What one end of a connection has seen so far. */
export class End {
  readonly socket: Socket
  received: Buffer = Buffer.alloc(0)
  /** How it ended: null while it has not. */
  ended: 'end' | 'reset' | null = null

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk])
    })
    socket.on('end', () => {
      this.ended ??= 'end'
    })
    socket.on('error', () => {
      this.ended ??= 'reset'
    })
  }
}

/** A server on this machine whose every connection can be looked at. */
export class FarEnd {
  readonly ends: End[] = []
  readonly #server: Server
  #port = 0

  private constructor(onConnection: (end: End) => void) {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const end = new End(socket)
      this.ends.push(end)
      onConnection(end)
    })
  }

  static async start(onConnection: (end: End) => void = () => undefined): Promise<FarEnd> {
    const far = new FarEnd(onConnection)
    await new Promise<void>((resolve, reject) => {
      far.#server.once('error', reject).listen(0, '127.0.0.1', resolve)
    })
    far.#port = (far.#server.address() as AddressInfo).port
    return far
  }

  /** Also known once it is closed. */
  get port(): number {
    return this.#port
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const { socket } of this.ends) socket.destroy()
    await closed
  }
}

/** A client of a port of this machine, connected. */
export function client(port: number): Promise<End> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: true })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(new End(socket))
    })
  })
}
