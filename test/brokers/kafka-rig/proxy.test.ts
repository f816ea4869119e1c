import { randomBytes } from 'node:crypto'

import { Kafka, logLevel, type Producer } from 'kafkajs'
import { afterEach, describe, expect, it } from 'vitest'

import { openBehind, type Behind } from '../kafka-behind.ts'
import { readAll } from '../kafka-read.ts'
import { createTopic } from '../kafka-topics.ts'
import type { KafkaProxy } from '../proxy/kafka-proxy.ts'
import { sharedKafka, sharedKafkaCluster } from '../shared-kafka.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

/** A topic of one partition behind a proxy; `direct` leads past it. */
async function place(): Promise<{
  topic: string
  proxy: KafkaProxy
  at: Behind
  direct: string[]
}> {
  const node = await sharedKafka()
  const at = await openBehind([node])
  cleanUps.push(() => at.close())
  const topic = `rig-${randomBytes(6).toString('hex')}`
  await createTopic([node.broker], topic)
  return { topic, proxy: at.proxies[0]!, at, direct: [node.broker] }
}

/** One of kafkajs that gives up an answer after a second. */
async function connected(brokers: readonly string[], retries: number): Promise<Producer> {
  const kafka = new Kafka({
    clientId: 'rig',
    brokers: [...brokers],
    logLevel: logLevel.NOTHING,
    requestTimeout: 1_000,
    retry: { retries, initialRetryTime: 100 },
  })
  const producer = kafka.producer({ idempotent: retries > 0, allowAutoTopicCreation: false })
  cleanUps.push(() => producer.disconnect().catch(() => undefined))
  await producer.connect()
  return producer
}

async function valuesOf(brokers: readonly string[], topic: string): Promise<readonly string[]> {
  return (await readAll(brokers, topic)).map(({ value }) => String(value))
}

describe('the fault proxy before a real Kafka', () => {
  it('is all that a client comes to know of the cluster', async () => {
    const cluster = await sharedKafkaCluster()
    const at = await openBehind(cluster.nodes)
    cleanUps.push(() => at.close())
    const topic = `rig-${randomBytes(6).toString('hex')}`
    await createTopic(cluster.brokers, topic, { partitions: 6 })
    const producer = await connected(at.brokers.slice(0, 1), 5)
    const rules = at.proxies.map((proxy) => proxy.rule('Produce', { do: 'delay', ms: 1 }))
    const messages = Array.from({ length: 60 }, (_, n) => ({ partition: n % 6, value: `${n}` }))
    await producer.send({ topic, messages })
    expect(rules.map(({ fired }) => fired)).toEqual([1, 1, 1])
    expect(await valuesOf(cluster.brokers, topic)).toHaveLength(60)
  })

  it('loses the answer for a record that is stored', async () => {
    const { topic, proxy, at, direct } = await place()
    const producer = await connected(at.brokers, 0)
    const rule = proxy.rule(({ records }) => records.has(topic), { do: 'lose-answer' }, 1)
    await expect(producer.send({ topic, messages: [{ value: 'a' }] })).rejects.toThrow('timed out')
    expect(rule.fired).toBe(1)
    expect(await valuesOf(direct, topic)).toEqual(['a'])
  })

  it('drops a request, and the record is not stored', async () => {
    const { topic, proxy, at, direct } = await place()
    const producer = await connected(at.brokers, 0)
    const rule = proxy.rule(({ records }) => records.has(topic), { do: 'drop' }, 1)
    await expect(producer.send({ topic, messages: [{ value: 'a' }] })).rejects.toThrow('timed out')
    expect(rule.fired).toBe(1)
    expect(await valuesOf(direct, topic)).toEqual([])
  })

  it('cuts the connection in place of an answer', async () => {
    const { topic, proxy, at, direct } = await place()
    const producer = await connected(at.brokers, 0)
    const rule = proxy.rule('Produce', { do: 'reset-answer' }, 1)
    await expect(producer.send({ topic, messages: [{ value: 'a' }] })).rejects.toThrow(
      /closed|ECONNRESET/,
    )
    expect(rule.fired).toBe(1)
    expect(await valuesOf(direct, topic)).toEqual(['a'])
  })

  it('answers with an error of its own', async () => {
    const { topic, proxy, at, direct } = await place()
    const producer = await connected(at.brokers, 0)
    proxy.rule('Produce', { do: 'answer-error', code: 45 }, 1)
    const sending = producer.send({ topic, messages: [{ value: 'a' }] })
    await expect(sending).rejects.toThrow('out of order sequence number')
    expect(await valuesOf(direct, topic)).toEqual(['a'])
  })

  it('shows that kafkajs calls a record sent that is not there, after one lost answer', async () => {
    const { topic, proxy, at, direct } = await place()
    const producer = await connected(at.brokers, 5)
    proxy.rule('Produce', { do: 'lose-answer' }, 1)
    const sends = ['a', 'b'].map((value) => producer.send({ topic, messages: [{ value }] }))
    await Promise.all(sends)
    const [first, ...others] = await valuesOf(direct, topic)
    expect(others, 'one of them is there twice, the other not at all').toEqual([first])
  })
})
