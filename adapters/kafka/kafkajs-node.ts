import { HoldfastError } from '../../src/contract/errors.ts'
import type { Node } from './kafkajs-cluster.ts'

/** A connection of kafkajs, as far as it is cut. */
interface Connection {
  readonly socket?: {
    readonly connecting: boolean
    destroy(error?: Error): unknown
    resetAndDestroy(): unknown
  }
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
export function encoded(bytes: Buffer): object {
  return { buf: bytes, buffer: bytes }
}

/** Resets the connections to a node: what it has not read yet, it shall never read. Who waits is rejected. */
export function cutNode({ connectionPool }: ConnectedNode, cause: unknown): void {
  const error = new HoldfastError('connection-lost', 'the connection was cut', { cause })
  for (const connection of connectionPool.pool) cutConnection(connection, error)
}

function cutConnection(connection: Connection, error: HoldfastError): void {
  const { socket } = connection
  if (socket === undefined) return
  if (socket.connecting) return void socket.destroy(error)
  try {
    // A reset: a node that hangs shall not find our request when it wakes up.
    socket.resetAndDestroy()
  } catch {
    // Not over TLS.
    socket.destroy()
  }
  // kafkajs hears neither of the two.
  connection.rejectRequests(error)
  connection.disconnect().catch(() => undefined)
}
