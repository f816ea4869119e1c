import { randomBytes } from 'node:crypto'

import { Kafka, logLevel, type Admin } from 'kafkajs'

import { BILLING, Orders, RETRY_LEVELS_MS } from './orders.ts'
import type { Found, ServerReader } from './server-reader.ts'

/** Kafka, as kafkajs sees it. */
export const kafkaReader: ServerReader = { answers, leftIn, read, removeRun }

/** A broker that says nothing for so long is taken for one that does not answer. */
const PATIENCE_MS = 10_000

async function answers(url: string): Promise<boolean> {
  try {
    await withAdmin(url, (admin) => admin.describeCluster())
    return true
  } catch {
    return false
  }
}

function leftIn(url: string, prefix: string): Promise<number> {
  return withAdmin(url, async (admin) => {
    const there = new Set(await admin.listTopics())
    let left = 0
    for (const topic of workTopics(prefix))
      if (there.has(topic)) left += await lag(admin, topic, prefix)
    return left
  })
}

async function read(url: string, prefix: string): Promise<Found> {
  return { left: await leftIn(url, prefix), dead: await deadLetters(url, `${named(prefix)}.dead`) }
}

function removeRun(url: string, prefix: string): Promise<void> {
  return withAdmin(url, async (admin) => {
    const there = await admin.listTopics()
    await admin.deleteTopics({ topics: there.filter((topic) => topic.startsWith(prefix)) })
    await admin.deleteGroups([named(prefix)])
  })
}

/** What lies between the offsets of the group and the ends; without an offset, between begin and end. */
async function lag(admin: Admin, topic: string, prefix: string): Promise<number> {
  const ends = await admin.fetchTopicOffsets(topic)
  const [found] = await admin.fetchOffsets({ groupId: named(prefix), topics: [topic] })
  let left = 0
  for (const { partition, low, high } of ends) {
    const offset = found?.partitions.find((one) => one.partition === partition)?.offset ?? '-1'
    left += Number(high) - Math.max(Number(offset), Number(low))
  }
  return left
}

/** Reads the topic to the ends that it has now, in a group that nobody else is in. */
async function deadLetters(url: string, topic: string): Promise<ReadonlyMap<string, string>> {
  const dead = new Map<string, string>()
  const open = await withAdmin(url, async (admin) => {
    const offsets = await admin.fetchTopicOffsets(topic)
    return new Map(
      offsets.flatMap(({ partition, low, high }) =>
        low === high ? [] : [[partition, BigInt(high)]],
      ),
    )
  })
  if (open.size === 0) return dead
  const groupId = `shop-reader-${randomBytes(4).toString('hex')}`
  const consumer = kafkaAt(url).consumer({ groupId })
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      setTimeout(() => reject(new Error(`${topic} was not read in time`)), 6 * PATIENCE_MS).unref()
      const eachMessage = async ({ partition, message }: EachMessage): Promise<void> => {
        const { id } = JSON.parse(String(message.value)) as { id: unknown }
        dead.set(String(id), String(message.headers?.['holdfast-dead-reason']))
        if (BigInt(message.offset) + 1n >= (open.get(partition) ?? 0n)) open.delete(partition)
        if (open.size === 0) resolve()
      }
      consumer.run({ autoCommit: false, eachMessage }).catch(reject)
    })
    return dead
  } finally {
    await consumer.disconnect()
    await withAdmin(url, (admin) => admin.deleteGroups([groupId])).catch(() => undefined)
  }
}

interface EachMessage {
  readonly partition: number
  readonly message: {
    readonly offset: string
    readonly value: Buffer | null
    readonly headers?: Readonly<Record<string, unknown>>
  }
}

function named(prefix: string): string {
  return `${prefix}${Orders.name}.${BILLING}`
}

function workTopics(prefix: string): readonly string[] {
  const levels = [0, ...RETRY_LEVELS_MS].map((ms) => `${named(prefix)}.retry.${ms}`)
  return [prefix + Orders.name, ...levels]
}

function kafkaAt(url: string): Kafka {
  const brokers = url.replace(/^kafka:\/\//, '').split(',')
  const retry = { retries: 2 }
  return new Kafka({ brokers, retry, requestTimeout: PATIENCE_MS, logLevel: logLevel.NOTHING })
}

async function withAdmin<T>(url: string, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafkaAt(url).admin()
  try {
    await admin.connect()
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}
