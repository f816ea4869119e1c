import { connect, type Channel } from 'amqplib'

import { BILLING, Orders, PARTITIONS, RETRY_LEVELS_MS } from './orders.ts'
import type { Found, ServerReader } from './server-reader.ts'

/** A broker that says nothing for so long is taken for one that does not answer. */
const PATIENCE_MS = 10_000
const HEARTBEAT_S = 5

/** RabbitMQ, as amqplib sees it. */
export const rabbitmqReader: ServerReader = { answers, leftIn, read, removeRun }

async function answers(url: string): Promise<boolean> {
  try {
    await withChannel(url, () => Promise.resolve())
    return true
  } catch {
    return false
  }
}

function leftIn(url: string, prefix: string): Promise<number> {
  return withConnection(url, async (open) => {
    let left = 0
    for (const queue of workQueues(prefix)) left += (await depth(open, queue)) ?? 0
    return left
  })
}

async function read(url: string, prefix: string): Promise<Found> {
  const left = await leftIn(url, prefix)
  const dead = await withChannel(url, (channel) => deadLetters(channel, `${named(prefix)}.dead`))
  return { dead, left }
}

function removeRun(url: string, prefix: string): Promise<void> {
  return withChannel(url, async (channel) => {
    // Deleting what is not there is no error.
    for (const queue of [...workQueues(prefix), `${named(prefix)}.dead`]) {
      await channel.deleteQueue(queue)
    }
    for (const level of levels(prefix)) await channel.deleteExchange(level)
    await channel.deleteExchange(prefix + Orders.name)
  })
}

/** Takes each letter once, gives none back before the last, and all of them by going away. */
async function deadLetters(channel: Channel, queue: string): Promise<Map<string, string>> {
  const dead = new Map<string, string>()
  for (;;) {
    const letter = await channel.get(queue)
    if (letter === false) return dead
    const { id } = JSON.parse(letter.content.toString('utf8')) as { id: unknown }
    const { headers = {} } = letter.properties
    dead.set(String(id), String(headers['holdfast-dead-reason']))
  }
}

function named(prefix: string): string {
  return `${prefix}${Orders.name}.${BILLING}`
}

function levels(prefix: string): readonly string[] {
  return RETRY_LEVELS_MS.map((ms) => `${named(prefix)}.retry.${ms}`)
}

function workQueues(prefix: string): readonly string[] {
  const partitions = Array.from({ length: PARTITIONS }, (_, n) => `${named(prefix)}.${n}`)
  return [...partitions, ...levels(prefix)]
}

type Open = () => Promise<Channel>

/** Null when there is no such queue: asking costs the channel then. */
async function depth(open: Open, queue: string): Promise<number | null> {
  const channel = await open()
  try {
    const { messageCount } = await channel.checkQueue(queue)
    await channel.close()
    return messageCount
  } catch (error) {
    if ((error as { code?: number }).code === 404) return null
    throw error
  }
}

function withChannel<T>(url: string, work: (channel: Channel) => Promise<T>): Promise<T> {
  return withConnection(url, async (open) => work(await open()))
}

/** Runs with a connection of its own; rejects when that takes too long, and leaves nothing open. */
async function withConnection<T>(url: string, work: (open: Open) => Promise<T>): Promise<T> {
  const connection = await connect(`${url}?heartbeat=${HEARTBEAT_S}`, { timeout: PATIENCE_MS })
  connection.on('error', () => undefined)
  const ended = new Promise<never>((_, reject) => {
    connection.once('close', (error?: Error) => reject(error ?? new Error('connection closed')))
  })
  ended.catch(() => undefined)
  const open: Open = async () => {
    const channel = await connection.createChannel()
    channel.on('error', () => undefined)
    return channel
  }
  try {
    return await Promise.race([work(open), ended])
  } finally {
    await connection.close().catch(() => undefined)
  }
}
