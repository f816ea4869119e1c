import { Kafka, logLevel } from 'kafkajs'
import { afterAll, describe, expect, it } from 'vitest'

import { ClusterAdmin } from '../../../adapters/kafka/cluster-admin.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { sharedKafkaCluster } from '../../brokers/shared-kafka.ts'
import { specOf, TestMember } from './test-member.ts'

const cluster = await sharedKafkaCluster()
const kafka = new Kafka({ brokers: [...cluster.brokers], logLevel: logLevel.NOTHING })
const admin = new ClusterAdmin({
  client: kafka,
  clock: systemClock,
  random: systemRandom,
  decompress: async (_, bytes) => bytes,
  timeoutMs: 15_000,
})
const [orphan, other] = ['orphan', 'other'].map((name) => `leaderless-${process.pid}-${name}`) as [
  string,
  string,
]
afterAll(async () => {
  await admin.deleteTopic(orphan)
  await admin.deleteTopic(other)
  await admin.close(systemClock.now() + 5_000)
})

const leaders = async (topic: string) =>
  (await admin.partitions(topic))?.map(({ leader }) => leader) ?? []

describe('the admin of a cluster that lost a broker', () => {
  it('tells of partitions without a leader, and goes on with everything else', async () => {
    const alone = { partitions: 3, replication: 1, config: {} }
    await admin.createTopic(orphan, alone)
    await expect.poll(() => leaders(orphan)).not.toContain(null)
    const [lost] = await leaders(orphan)
    const node = cluster.node(lost as number)
    await node.kill()
    try {
      await expect.poll(() => leaders(orphan), { timeout: 60_000 }).toContain(null)
      expect((await leaders(orphan)).filter((leader) => leader !== null)).toHaveLength(2)
      const offsets = admin.offsets(orphan, 'latest')
      await expect(offsets).rejects.toMatchObject({ code: 'unavailable' })
      expect(await admin.createTopic(other, { ...alone, replication: 2 })).toBe('created')
      await expect.poll(() => leaders(other), { timeout: 20_000 }).not.toContain(null)
      expect(await admin.offsets(other, 'latest')).toHaveLength(3)
      expect((await admin.describeBroker()).brokers).toHaveLength(2)
    } finally {
      await node.start()
      await cluster.untilAllUp()
    }
    await expect.poll(() => leaders(orphan), { timeout: 60_000 }).not.toContain(null)
  })
})

describe('a consumer of a topic that lost a leader', () => {
  it('says so until it has one again', async () => {
    const topic = `${orphan}-consumed`
    await admin.createTopic(topic, { partitions: 3, replication: 1, config: {} })
    await expect.poll(() => leaders(topic)).not.toContain(null)
    const member = await TestMember.join(cluster.brokers, specOf([topic]))
    const gone = 0
    const node = cluster.node((await leaders(topic))[gone] as number)
    try {
      await member.owns(...[0, 1, 2].map((partition) => `${topic}/${partition}`))
      await node.kill()
      await member.was(`partition ${gone} of topic "${topic}" could not be read`)
    } finally {
      await node.start()
    }
    try {
      await member.was('all is read')
    } finally {
      await member.leave()
      await cluster.untilAllUp()
      await admin.deleteTopic(topic)
    }
  })
})
