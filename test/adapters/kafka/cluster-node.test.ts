import { connect, createServer, type Socket } from 'node:net'

import { afterAll, describe, expect, it } from 'vitest'

import { cutNode, type ConnectedNode } from '../../../adapters/kafka/cluster-node.ts'

const accepted: Socket[] = []
const server = createServer((socket) => {
  accepted.push(socket)
  // It reads nothing, like a node that hangs.
  socket.pause()
  socket.on('error', () => undefined)
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as { port: number }
afterAll(() => {
  for (const socket of accepted) socket.destroy()
  server.close()
})

/** A connection as kafkajs has it, with a request on its way. */
async function connected(): Promise<{
  node: ConnectedNode
  socket: Socket
  closed: () => boolean
}> {
  const before = accepted.length
  const socket = connect(port, '127.0.0.1')
  let isClosed = false
  socket.on('close', () => (isClosed = true)).on('error', () => undefined)
  await expect.poll(() => accepted.length).toBe(before + 1)
  socket.write('a request')
  const connection = { socket, rejectRequests: () => undefined, disconnect: async () => undefined }
  const node = { connectionPool: { pool: [connection] } } as unknown as ConnectedNode
  return { node, socket, closed: () => isClosed }
}

describe('cutting a connection', () => {
  it('closes it, however much the other end has not taken', async () => {
    const { node, socket, closed } = await connected()
    while (socket.write(Buffer.alloc(1_000_000)));
    cutNode(node, null)
    await expect.poll(closed).toBe(true)
  })

  it('closes one that is being ended, which Node cannot reset', async () => {
    const { node, socket, closed } = await connected()
    socket.end()
    // Until the end has begun, and before the loop goes round.
    await Promise.resolve()
    cutNode(node, null)
    await expect.poll(closed).toBe(true)
  })

  it('does it once, since kafkajs listens to a dead one more with each time', async () => {
    const { node, closed } = await connected()
    let disconnects = 0
    const [connection] = node.connectionPool.pool
    Object.assign(connection!, { disconnect: async () => void disconnects++ })
    cutNode(node, null)
    await expect.poll(closed).toBe(true)
    cutNode(node, null)
    expect(disconnects).toBe(1)
  })

  it('closes one that is still connecting', async () => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined)
    const closing = new Promise((resolve) => socket.once('close', resolve))
    const connection = {
      socket,
      rejectRequests: () => undefined,
      disconnect: async () => undefined,
    }
    cutNode({ connectionPool: { pool: [connection] } } as unknown as ConnectedNode, null)
    await closing
  })
})
