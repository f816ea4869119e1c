import { randomBytes } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import { until } from '../handshake.ts'
import { sharedKafka, sharedKafkaCluster } from '../shared-kafka.ts'
import { depthOf, readAll } from '../kafka-read.ts'
import { createTopic, deleteTopic, leadersOf, partitionsOf, plainKafka } from '../kafka-topics.ts'

const name = (): string => `rig-${randomBytes(6).toString('hex')}`

/** Sends so many records, dealt out over the partitions, with the word of every replica in sync. */
async function fill(
  brokers: readonly string[],
  topic: string,
  { partitions, count }: { partitions: number; count: number },
): Promise<void> {
  const producer = plainKafka(brokers).producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const messages = Array.from({ length: count }, (_, n) => ({
    partition: n % partitions,
    key: `k${n}`,
    value: n % 10 === 9 ? null : `v${n}`,
    headers: { n: String(n) },
  }))
  await producer.send({ topic, messages, acks: -1 })
  await producer.disconnect()
}

/** Numbers of the records found, sorted. */
async function found(brokers: readonly string[], topic: string): Promise<readonly number[]> {
  const records = await readAll(brokers, topic)
  return records.map(({ headers }) => Number(headers['n'])).toSorted((a, b) => a - b)
}

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, n) => n)

describe('the broker of the Kafka tests', () => {
  it('is 4.3, and takes no topic that nobody made', async () => {
    const node = await sharedKafka()
    const versions = await node.tool(
      'org.apache.kafka.tools.FeatureCommand',
      '--bootstrap-server',
      node.internalBroker,
      'describe',
    )
    expect(versions).toMatch(/metadata\.version.*FinalizedVersionLevel: 4\.3/)
    const producer = plainKafka([node.broker]).producer({ allowAutoTopicCreation: true })
    await producer.connect()
    const sending = producer.send({ topic: name(), messages: [{ value: 'x' }] })
    await expect(sending).rejects.toThrow('does not host this topic-partition')
    await producer.disconnect()
  })

  it('keeps what it confirmed when it is killed, at the same port', async () => {
    const node = await sharedKafka()
    const topic = name()
    await createTopic([node.broker], topic, { partitions: 3 })
    await fill([node.broker], topic, { partitions: 3, count: 100 })
    await node.kill()
    expect(await node.isRunning()).toBe(false)
    await node.start()
    expect(await found([node.broker], topic)).toEqual(upTo(100))
    expect(await depthOf([node.broker], topic)).toBe(100n)
    await node.restart()
    const records = await readAll([node.broker], topic)
    expect(records.filter(({ value }) => value === null)).toHaveLength(10)
    await deleteTopic([node.broker], topic)
  })

  it('takes the settings of a topic', async () => {
    const node = await sharedKafka()
    const topic = name()
    await createTopic([node.broker], topic, { config: { 'max.message.bytes': '2000' } })
    const producer = plainKafka([node.broker]).producer({ allowAutoTopicCreation: false })
    await producer.connect()
    const value = Buffer.alloc(3_000)
    await expect(producer.send({ topic, messages: [{ value }] })).rejects.toThrow(
      'larger than the max',
    )
    await producer.disconnect()
  })
})

describe('the three brokers of the Kafka tests', () => {
  it('go on without one of them, whoever it is', async () => {
    const cluster = await sharedKafkaCluster()
    const topic = name()
    await createTopic(cluster.brokers, topic, { partitions: 6 })
    await cluster.untilInSync(topic)
    const facts = await partitionsOf(cluster.brokers, topic)
    expect(facts.map(({ replicas }) => replicas.toSorted((a, b) => a - b))).toEqual(
      facts.map(() => [1, 2, 3]),
    )
    const leader = await cluster.leaderOf(topic, 0)
    await leader.kill()
    const others = cluster.nodes.filter((node) => node !== leader).map(({ broker }) => broker)
    await until(
      'another leader of every partition',
      async () => ![...(await leadersOf(others, topic)).values()].includes(leader.id),
      60_000,
    )
    await fill(others, topic, { partitions: 6, count: 60 })
    await leader.start()
    await cluster.untilInSync(topic)
    const controller = await cluster.controller()
    await controller.kill()
    await controller.start()
    await cluster.untilInSync(topic)
    expect(await found(cluster.brokers, topic)).toEqual(upTo(60))
    await cluster.untilAllUp()
  })

  it('take nothing when two of them are down, and go on afterwards', async () => {
    const cluster = await sharedKafkaCluster()
    const topic = name()
    await createTopic(cluster.brokers, topic)
    await cluster.untilInSync(topic)
    const leader = await cluster.leaderOf(topic, 0)
    const others = cluster.nodes.filter((node) => node !== leader)
    await Promise.all(others.map((node) => node.kill()))
    const producer = plainKafka([leader.broker]).producer({ retry: { retries: 0 } })
    await producer.connect()
    const sending = producer.send({ topic, messages: [{ value: 'x' }], timeout: 2_000 })
    await expect(sending).rejects.toThrow('timed out')
    await producer.disconnect()
    await Promise.all(others.map((node) => node.start()))
    await cluster.untilInSync(topic)
    await fill(cluster.brokers, topic, { partitions: 1, count: 10 })
  })
})
