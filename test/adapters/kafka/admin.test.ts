import { Kafka, logLevel } from 'kafkajs'
import { afterAll, describe, expect, it } from 'vitest'

import { ClusterAdmin } from '../../../adapters/kafka/cluster-admin.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { eventually } from '../../conformance/wait.ts'
import { clientUnderTest } from './client-under-test.ts'

const decompress = async (_: number, bytes: Buffer) => bytes
const node = await sharedKafka()
const kafka = new Kafka({ brokers: [node.broker], logLevel: logLevel.NOTHING })
const admin = adminOf(await clientUnderTest({ brokers: node.broker }))
const closing: (() => Promise<unknown>)[] = [() => admin.close(systemClock.now() + 5_000)]
afterAll(async () => {
  for (const close of closing) await close()
})

function adminOf(
  client: Awaited<ReturnType<typeof clientUnderTest>>,
  timeoutMs = 8_000,
): ClusterAdmin {
  return new ClusterAdmin({
    client,
    clock: systemClock,
    random: systemRandom,
    decompress,
    timeoutMs,
  })
}

let made = 0

async function newTopic(partitions = 2, config: Record<string, string> = {}): Promise<string> {
  const name = `admin-${process.pid}-${++made}`
  expect(await admin.createTopic(name, { partitions, replication: 1, config })).toBe('created')
  closing.unshift(() => admin.deleteTopic(name))
  await eventually(
    systemClock,
    10_000,
    () => `topic ${name} has no leaders`,
    async () => (await admin.partitions(name))?.every(({ leader }) => leader !== null) ?? false,
  )
  return name
}

async function produce(topic: string, partition: number, ...values: string[]): Promise<void> {
  const producer = kafka.producer({ createPartitioner: () => () => partition })
  await producer.connect()
  const headers = { one: ['a', 'b'], two: 'c' }
  const messages = values.map((value) => ({ key: 'k', value, headers }))
  await producer.send({ topic, messages })
  await producer.disconnect()
}

describe('the admin through kafkajs', () => {
  it('finds no topic that is not there, and makes none by asking', async () => {
    expect(await admin.partitions('nowhere')).toBeNull()
    expect(await admin.partitions('nowhere')).toBeNull()
    expect(await admin.topics()).not.toContain('nowhere')
  })

  it('makes a topic once, as it was asked for', async () => {
    const config = { 'retention.ms': '-1', 'message.timestamp.type': 'LogAppendTime' }
    const topic = await newTopic(3, config)
    const again = { partitions: 7, replication: 1, config: {} }
    expect(await admin.createTopic(topic, again)).toBe('exists')
    expect(await admin.partitions(topic)).toEqual(
      [0, 1, 2].map((partition) => ({ partition, leader: 1, replicas: [1], isr: [1] })),
    )
    expect(await admin.describeTopic(topic)).toMatchObject({
      ...config,
      'cleanup.policy': 'delete',
      'max.message.bytes': '1048588',
    })
    expect(await admin.topics()).toContain(topic)
  })

  it('says with a named error why a topic cannot be made', async () => {
    const making = admin.createTopic('too-wide', { partitions: 1, replication: 9, config: {} })
    await expect(making).rejects.toMatchObject({
      code: 'topology',
      message: expect.stringMatching(/making topic "too-wide" failed: INVALID_REPLICATION_FACTOR/),
    })
  })

  it('describes the broker', async () => {
    const described = await admin.describeBroker()
    expect(described).toMatchObject({ brokers: [1], controller: 1 })
    expect(described.config).toMatchObject({ 'auto.create.topics.enable': expect.any(String) })
    expect((await admin.describeBroker(1)).config['node.id']).toBe('1')
  })

  it('tells the first and the next offset of each partition', async () => {
    const topic = await newTopic(2)
    await produce(topic, 1, 'a', 'b', 'c')
    expect(await admin.offsets(topic, 'latest')).toEqual([
      { partition: 0, offset: 0n },
      { partition: 1, offset: 3n },
    ])
    expect(await admin.offsets(topic, 'earliest')).toEqual([
      { partition: 0, offset: 0n },
      { partition: 1, offset: 0n },
    ])
    await expect(admin.offsets('nowhere', 'latest')).rejects.toMatchObject({ code: 'topology' })
  })

  it('reads records without joining a group', async () => {
    const topic = await newTopic(2)
    await produce(topic, 1, 'a', 'b', 'c')
    const records = await admin.read({ topic, partition: 1 }, 1n, 1_000_000)
    expect(records.map(({ offset, value }) => [offset, String(value)])).toEqual([
      [1n, 'b'],
      [2n, 'c'],
    ])
    expect(records[0]?.headers).toEqual([
      ['one', Buffer.from('a')],
      ['one', Buffer.from('b')],
      ['two', Buffer.from('c')],
    ])
    expect(await admin.read({ topic, partition: 0 }, 0n, 1_000_000)).toEqual([])
  })

  it('sets and tells the offsets of a group without joining it', async () => {
    const topic = await newTopic(2)
    const group = `${topic}.g`
    const none = { topic, offset: null, metadata: null }
    expect(await admin.groupOffsets(group, topic)).toEqual([
      { ...none, partition: 0 },
      { ...none, partition: 1 },
    ])
    await admin.setGroupOffsets(group, topic, [{ partition: 1, offset: 5n, metadata: 'why' }])
    expect(await admin.groupOffsets(group, topic)).toEqual([
      { ...none, partition: 0 },
      { ...none, partition: 1, offset: 5n, metadata: 'why' },
    ])
    expect(await admin.groupOffsets(group, 'nowhere')).toEqual([])
  })

  it('refuses to set offsets under the feet of a member', async () => {
    const topic = await newTopic(1)
    const groupId = `${topic}.g`
    const consumer = kafka.consumer({ groupId })
    closing.unshift(() => consumer.disconnect())
    const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
    await consumer.connect()
    await consumer.subscribe({ topic })
    await consumer.run({ eachMessage: async () => undefined })
    await joined
    const setting = admin.setGroupOffsets(groupId, topic, [{ partition: 0, offset: 0n }])
    await expect(setting).rejects.toMatchObject({
      code: 'busy',
      message: expect.stringMatching(/the group has members/),
    })
  })

  it('deletes a topic, also one that is not there', async () => {
    const topic = await newTopic(1)
    await admin.deleteTopic(topic)
    await eventually(
      systemClock,
      10_000,
      () => 'it is still there',
      async () => (await admin.partitions(topic)) === null,
    )
    await admin.deleteTopic(topic)
  })

  it('ends by a named error where nobody answers, and does not keep what it tried', async () => {
    const other = adminOf(await clientUnderTest({ brokers: '127.0.0.1:1' }), 600)
    await expect(other.topics()).rejects.toMatchObject({
      code: expect.stringMatching(/connection-lost|timeout/),
      message: expect.stringMatching(/listing topics/),
    })
    await other.close(systemClock.now() + 1_000)
    await expect(other.topics()).rejects.toMatchObject({ code: 'closed' })
  })
})
