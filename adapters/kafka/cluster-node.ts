import { HoldfastError } from '../../src/contract/errors.ts'
import type { Node } from './cluster.ts'

/** A connection of a client, as far as it is cut. */
interface Connection {
  readonly socket?:
    | {
        readonly connecting: boolean
        readonly writableEnded: boolean
        readonly destroyed: boolean
        destroy(error?: Error): unknown
        resetAndDestroy(): unknown
      }
    | undefined
  rejectRequests(error: Error): void
  disconnect(): Promise<unknown>
}

/** A node of the cluster with its connections; requests of our own making are sent on them. */
export interface ConnectedNode extends Node {
  readonly versions: Readonly<Record<number, { readonly maxVersion: number }>> | null
  readonly connectionPool: {
    send(exchange: object): Promise<unknown>
    readonly pool: readonly Connection[]
  }
}

/** As much of kafkajs's own encoder as it asks of a request. */
export function encoded(bytes: Buffer): { readonly buf: Buffer; readonly buffer: Buffer } {
  return { buf: bytes, buffer: bytes }
}

/**
 * Resets the connections to a node: what has not left this host never will. What has, a node that hangs
 * may still read when it wakes up. Who waits is rejected.
 */
export function cutNode({ connectionPool }: ConnectedNode, cause: unknown): void {
  const error = new HoldfastError('connection-lost', 'the connection was cut', { cause })
  for (const connection of connectionPool.pool) cutConnection(connection, error)
}

function cutConnection(connection: Connection, error: HoldfastError): void {
  const { socket } = connection
  if (socket === undefined) return
  if (socket.connecting) return void socket.destroy(error)
  // It was cut before, and is still in its place: kafkajs would listen to it once more each time.
  if (socket.destroyed) return connection.rejectRequests(error)
  try {
    // Node cannot reset what is being ended, and then never closes it: the process could not even exit.
    if (socket.writableEnded) socket.destroy()
    else socket.resetAndDestroy()
  } catch {
    // Not over TLS.
    socket.destroy()
  }
  // kafkajs hears neither of the two.
  connection.rejectRequests(error)
  connection.disconnect().catch(() => undefined)
}
