import { connect } from 'amqplib'

/** Messages ready in a queue, asked over a connection of its own. */
export async function depthOf(url: string, queue: string): Promise<number> {
  const connection = await connect(url)
  // Without a listener, an error would end the process; it is told by the promise as well.
  connection.on('error', () => undefined)
  try {
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    return (await channel.checkQueue(queue)).messageCount
  } finally {
    await connection.close().catch(() => undefined)
  }
}
