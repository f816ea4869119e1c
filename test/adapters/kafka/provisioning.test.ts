import { Kafka, logLevel } from 'kafkajs'
import { afterAll, describe, expect, it } from 'vitest'

import { audit } from '../../../adapters/kafka/audit.ts'
import { ClusterAdmin } from '../../../adapters/kafka/cluster-admin.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import { Provisioner } from '../../../adapters/kafka/topology.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { silent } from '../../../src/contract/events.ts'
import type { Finding, TopicTopology } from '../../../src/contract/topology.ts'
import { sharedKafkaCluster } from '../../brokers/shared-kafka.ts'

const decompress = async (_: number, bytes: Buffer) => bytes
const cluster = await sharedKafkaCluster()
const brokers = cluster.brokers
const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING })
const plain = kafka.admin()
await plain.connect()
const admins: ClusterAdmin[] = []
const prefix = `provisioning-${process.pid}.`
afterAll(async () => {
  const topics = (await plain.listTopics()).filter((topic) => topic.startsWith(prefix))
  await plain.deleteTopics({ topics })
  await plain.disconnect()
  await Promise.all(admins.map((admin) => admin.close(systemClock.now() + 5_000)))
})

let named = 0

/** What a process of its own has, for a topic of its own. */
function stage(given: Partial<KafkaOptions> = {}, name = `t${++named}`) {
  const options = resolveOptions({ brokers, prefix, ...given })
  const clock = systemClock
  const admin = new ClusterAdmin({
    client: kafka,
    clock,
    random: systemRandom,
    decompress,
    timeoutMs: 8_000,
  })
  admins.push(admin)
  const topics = new TopicTable({ admin, clock, emit: silent, options })
  const provisioner = new Provisioner({ admin, topics, options, clock, emit: silent })
  const topology: TopicTopology = {
    name,
    groups: ['g'],
    partitions: 3,
    ordering: 'key',
    retryLevelsMs: [1_000],
  }
  const all = { topics: [topology] }
  return {
    name,
    admin,
    provision: (mode: 'create' | 'verify' = 'create', some: Partial<TopicTopology> = {}) =>
      provisioner.provision({ topics: [{ ...topology, ...some }] }, mode),
    audit: () => audit(all, { admin, topics, options }),
    offsets: async () => {
      const found = await admin.groupOffsets(`${prefix}${name}.g`, prefix + name)
      return found.map(({ offset }) => offset)
    },
  }
}

const codes = (findings: readonly Finding[]) => findings.map(({ code }) => code)

async function produce(name: string, partition: number, count: number): Promise<void> {
  const producer = kafka.producer({ createPartitioner: () => () => partition })
  await producer.connect()
  const messages = Array.from({ length: count }, () => ({ value: 'x' }))
  await producer.send({ topic: prefix + name, messages, acks: -1 })
  await producer.disconnect()
}

describe('provisioning on three brokers', () => {
  it('makes everything with three copies, and finds nothing weak about it', async () => {
    const { provision, audit: audited, admin, name } = stage()
    expect(await provision()).toEqual([])
    for (const topic of ['', '.g.retry.0', '.g.retry.1000', '.g.dead']) {
      const partitions = await admin.partitions(prefix + name + topic)
      expect(partitions).toHaveLength(3)
      for (const { replicas } of partitions ?? []) expect(replicas).toHaveLength(3)
      const config = await admin.describeTopic(prefix + name + topic)
      expect(config['min.insync.replicas']).toBe('2')
    }
    const weak = (await audited()).filter(({ severity }) => severity !== 'info')
    expect(weak).toEqual([])
    expect(await provision('verify')).toEqual([])
  })

  it('is done at once by two processes', async () => {
    const one = stage()
    const other = stage({}, one.name)
    expect(await Promise.all([one.provision(), other.provision()])).toEqual([[], []])
    expect(await one.offsets()).toEqual([0n, 0n, 0n])
  })

  it('names one copy as weak, and refuses it when strict', async () => {
    const weak = stage({ replication: 1 })
    await weak.provision()
    expect(codes(await weak.provision())).toContain('kafka.replication')
    const strict = stage({ strict: true }, weak.name)
    const found = await strict.provision()
    expect(found).toContainEqual(
      expect.objectContaining({ severity: 'error', code: 'kafka.replication' }),
    )
  })

  it("anchors a new group 'now', and an old one at the start of what was added", async () => {
    const { provision, offsets, name } = stage()
    await provision('create', { groups: [] })
    await produce(name, 0, 5)
    await provision()
    expect(await offsets()).toEqual([5n, 0n, 0n])
    await plain.createPartitions({ topicPartitions: [{ topic: prefix + name, count: 4 }] })
    await expect.poll(async () => (await offsets()).length, { timeout: 20_000 }).toBe(4)
    await produce(name, 3, 2)
    expect(codes(await provision())).toEqual(['kafka.partitions'])
    expect(await offsets()).toEqual([5n, 0n, 0n, 0n])
  })

  it('names what was deleted before it was consumed', async () => {
    const { provision, audit: audited, name } = stage()
    await provision()
    await produce(name, 1, 9)
    const partitions = [{ partition: 1, offset: '4' }]
    // It deletes in topics that it has looked up before.
    await plain.fetchTopicOffsets(prefix + name)
    await plain.deleteTopicRecords({ topic: prefix + name, partitions })
    const [loss] = (await audited()).filter(({ code }) => code === 'kafka.data-loss')
    expect(loss?.message).toMatch(/begins at 4, .* read up to 0: 4 offsets/)
    expect(codes(await provision())).toEqual(['kafka.data-loss'])
  })

  it('starts a group whose offsets are gone at the oldest message', async () => {
    const { provision, offsets, name } = stage()
    await provision()
    await produce(name, 2, 3)
    await plain.deleteGroups([`${prefix}${name}.g`])
    expect(await offsets()).toEqual([null, null, null])
    expect(codes(await provision())).toEqual(['kafka.offsets-expired'])
    expect(await offsets()).toEqual([0n, 0n, 0n])
  })

  it('names what is missing when it only looks', async () => {
    const { provision, name } = stage()
    const missing = await provision('verify')
    expect(missing).toMatchObject([{ severity: 'error', code: 'kafka.topic-missing' }])
    await provision()
    await plain.deleteTopics({ topics: [`${prefix}${name}.g.dead`] })
    const found = () => provision('verify')
    await expect
      .poll(async () => codes(await found()), { timeout: 20_000 })
      .toEqual(['kafka.topic-missing'])
  })
})
