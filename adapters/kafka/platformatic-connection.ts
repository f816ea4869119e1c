import type { Connection, ConnectionOptions } from '@platformatic/kafka'

import { apiVersions } from './cluster-requests.ts'
import type { Platformatic } from './platformatic-package.ts'
import { platformaticTrouble } from './platformatic-trouble.ts'

/** What a connection is made with. */
export interface ConnectionSettings {
  readonly library: Platformatic
  readonly clientId: string
  readonly host: string
  readonly port: number
  readonly options: ConnectionOptions
  /** Nothing is connected any more. */
  readonly isOver: () => boolean
}

/** A socket as it is cut: until it is connected an error has to say why, or nobody hears of it. */
interface Cuttable {
  readonly connecting: boolean
  readonly writableEnded: boolean
  readonly destroyed: boolean
  destroy(error?: Error): unknown
  resetAndDestroy(): unknown
}

/**
 * One connection to a node, made when it is needed and again after it was lost. Versions, frames and
 * log-in are the package's; its own time limits are set beyond ours, since it reads nothing more after an
 * answer that came too late: who waits in vain cuts the connection.
 */
export class PlatformaticConnection {
  readonly #settings: ConnectionSettings
  #connection: Connection | null = null
  #connecting: Promise<Connection> | null = null

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
  }

  get isConnected(): boolean {
    return this.#connecting === null && this.#connection?.isConnected() === true
  }

  /** For cutting. */
  get socket(): Cuttable | undefined {
    const connection = this.#connection
    const socket = connection?.socket
    if (connection === null || !socket) return undefined
    return {
      connecting: socket.connecting || !connection.isConnected(),
      writableEnded: socket.writableEnded,
      destroyed: socket.destroyed,
      destroy: (error) => socket.destroy(error),
      resetAndDestroy: () => socket.resetAndDestroy(),
    }
  }

  /** Who waits hears of it from the socket. */
  rejectRequests(): void {}

  disconnect(): Promise<void> {
    return this.close()
  }

  /** Connects and logs in, where that was not done or is being done again. */
  async open(): Promise<void> {
    await this.#open()
  }

  /** Writes a request and waits for its answer's body. `encode` is called when it can be written. */
  async send(key: number, version: number, encode: () => Promise<Buffer>): Promise<Buffer> {
    await this.#open()
    const body = await encode()
    return this.#write(await this.#open(), key, version, body)
  }

  #write(connection: Connection, key: number, version: number, body: Buffer): Promise<Buffer> {
    const { Writer } = this.#settings.library
    const payload = (): never => {
      const writer = Writer.create()
      writer.append(body)
      return writer as never
    }
    return new Promise((resolve, reject) => {
      connection.send<Buffer>(
        key,
        version,
        payload,
        (_id, _key, _version, reader) => reader.buffer.slice(),
        // Where there are tags, they are part of the bodies.
        false,
        false,
        (error, answer) => {
          if (error) reject(platformaticTrouble(error))
          else resolve(answer as unknown as Buffer)
        },
      )
    })
  }

  /** Ends it in order. */
  async close(): Promise<void> {
    const connection = this.#connection
    this.#connection = null
    if (connection === null) return
    await new Promise<void>((resolve) => connection.close(() => resolve()))
  }

  async #open(): Promise<Connection> {
    if (this.#connecting !== null) return this.#connecting
    const connection = this.#connection
    if (connection?.isConnected() === true) return connection
    this.#connecting = this.#connect().finally(() => (this.#connecting = null))
    return this.#connecting
  }

  async #connect(): Promise<Connection> {
    const known = this.#connection
    if (known !== null && known.status === 'reauthenticating') {
      await known.ready().catch(() => undefined)
      if (known.isConnected()) return known
    }
    const { library, clientId, host, port, options, isOver } = this.#settings
    if (isOver()) throw platformaticTrouble(new Error('no connections are made any more'))
    const connection = new library.Connection(clientId, options)
    this.#connection = connection
    // Without a listener a second error would end the process; what waits hears of it in any case.
    connection.on('error', () => undefined)
    // A lost connection would otherwise still log in again when its session ends.
    connection.on('close', () => connection.close(() => undefined))
    try {
      await connection.connect(host, port)
      // A port may be open although no broker is behind it: what is written there may have been written.
      await this.#write(connection, apiVersions.key, apiVersions.version, Buffer.alloc(0))
      return connection
    } catch (error) {
      connection.socket?.destroy()
      if (this.#connection === connection) this.#connection = null
      throw platformaticTrouble(error)
    }
  }
}
