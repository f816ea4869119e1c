import { describe, expect, it } from 'vitest'

import { audit, auditConnection } from '../../../adapters/kafka/audit.ts'
import { resolveOptions, type KafkaOptions } from '../../../adapters/kafka/options.ts'
import { Provisioner } from '../../../adapters/kafka/topology.ts'
import { TopicTable } from '../../../adapters/kafka/topics.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { silent } from '../../../src/contract/events.ts'
import type { Finding, Topology } from '../../../src/contract/topology.ts'
import { FakeAdmin } from './fake-admin.ts'

const topology: Topology = {
  topics: [
    { name: 'orders', groups: ['g'], partitions: 2, ordering: 'key', retryLevelsMs: [1_000] },
  ],
}

/** A cluster on which everything was made by holdfast, and what an audit says of it. */
async function stage(given: Partial<KafkaOptions> = {}): Promise<{
  admin: FakeAdmin
  codes: () => Promise<string[]>
  findings: () => Promise<readonly Finding[]>
}> {
  const admin = new FakeAdmin()
  const options = resolveOptions({ brokers: 'localhost', ...given })
  const topics = new TopicTable({ admin, clock: systemClock, emit: silent, options })
  const provisioner = new Provisioner({ admin, topics, options, clock: systemClock, emit: silent })
  await provisioner.provision(topology, 'create')
  const offsets = { partitions: 1, replication: 3, config: { 'min.insync.replicas': '2' } }
  admin.add('__consumer_offsets', offsets).config['cleanup.policy'] = 'compact'
  const findings = () => audit(topology, { admin, topics, options })
  const codes = async () =>
    (await findings()).map(({ severity, code, subject }) => `${severity} ${code} ${subject}`)
  return { admin, codes, findings }
}

const FLUSH = [1, 2, 3].map((node) => `info kafka.flush broker ${node}`)

describe('the audit', () => {
  it('finds nothing weak about what holdfast made on three brokers, but that nothing is flushed', async () => {
    const { codes } = await stage()
    expect(await codes()).toEqual(FLUSH)
  })

  it.each<readonly [string, string, string, string]>([
    ['orders', 'min.insync.replicas', '1', 'warning kafka.min-insync orders'],
    ['orders', 'min.insync.replicas', '3', 'warning kafka.min-insync orders'],
    ['orders', 'unclean.leader.election.enable', 'true', 'warning kafka.unclean-election orders'],
    ['orders', 'cleanup.policy', 'compact', 'info kafka.compacted orders'],
    [
      'orders.g.retry.1000',
      'cleanup.policy',
      'compact,delete',
      'error kafka.compacted orders.g.retry.1000',
    ],
    ['orders.g.dead', 'cleanup.policy', 'compact', 'error kafka.compacted orders.g.dead'],
    ['orders.g.dead', 'retention.ms', '1000', 'warning kafka.retention orders.g.dead'],
    ['orders.g.dead', 'max.message.bytes', '1000', 'warning kafka.max-message-bytes orders.g.dead'],
    [
      'orders.g.dead',
      'unclean.leader.election.enable',
      'true',
      'warning kafka.unclean-election orders.g.dead',
    ],
    ['orders.g.retry.0', 'min.insync.replicas', '1', 'warning kafka.min-insync orders.g.retry.0'],
    [
      'orders.g.retry.0',
      'message.timestamp.type',
      'CreateTime',
      'warning kafka.timestamp-type orders.g.retry.0',
    ],
    [
      '__consumer_offsets',
      'min.insync.replicas',
      '1',
      'warning kafka.min-insync __consumer_offsets',
    ],
    [
      '__consumer_offsets',
      'unclean.leader.election.enable',
      'true',
      'warning kafka.unclean-election __consumer_offsets',
    ],
  ])('names a weak topic: %s with %s = %s', async (topic, setting, value, expected) => {
    const { admin, codes } = await stage()
    admin.topic(topic).config[setting] = value
    expect(await codes()).toEqual(expect.arrayContaining([expected]))
    expect(await codes()).toHaveLength(FLUSH.length + 1)
  })

  it.each(['orders', 'orders.g.retry.0', 'orders.g.dead', '__consumer_offsets'])(
    'names too few copies of %s',
    async (name) => {
      const { admin, codes } = await stage()
      const topic = admin.topic(name)
      topic.partitions = topic.partitions.map((one) => ({ ...one, replicas: [1], isr: [1] }))
      expect(await codes()).toContain(`warning kafka.replication ${name}`)
    },
  )

  it('names what is away', async () => {
    const { admin, codes } = await stage()
    const { partitions } = admin.topic('orders')
    partitions[0] = { ...partitions[0]!, leader: null, isr: [2] }
    expect(await codes()).toEqual([
      ...FLUSH,
      'warning kafka.out-of-sync orders',
      'warning kafka.no-leader orders',
    ])
  })

  it.each<readonly [string, string, string]>([
    ['auto.create.topics.enable', 'true', 'warning kafka.auto-create broker 1'],
    ['unclean.leader.election.enable', 'true', 'warning kafka.unclean-election broker 1'],
    ['offset.metadata.max.bytes', '100', 'warning kafka.offset-metadata broker 1'],
    ['offsets.retention.minutes', '1', 'warning kafka.offsets-retention broker 1'],
    ['group.max.session.timeout.ms', '9000', 'error kafka.session-timeout broker 1'],
    ['group.min.session.timeout.ms', '60000', 'error kafka.session-timeout broker 1'],
  ])('names a weak setting of a broker: %s = %s', async (setting, value, expected) => {
    const { admin, codes } = await stage()
    admin.config[setting] = value
    expect(await codes()).toContain(expected)
  })

  it('counts brokers', async () => {
    const { admin, codes } = await stage()
    admin.brokers = [1, 2]
    expect(await codes()).toContain('warning kafka.cluster-size cluster')
  })

  it('says what it may not see', async () => {
    const { admin, codes } = await stage()
    admin.forbidden.add('describe').add('broker')
    expect(await codes()).toEqual([
      'info kafka.audit-partial cluster',
      'info kafka.settings-unseen __consumer_offsets',
      'info kafka.settings-unseen orders',
      'info kafka.settings-unseen orders.g.retry.0',
      'info kafka.settings-unseen orders.g.retry.1000',
      'info kafka.settings-unseen orders.g.dead',
    ])
  })

  it('names topics that are missing, and retry topics that are no longer declared', async () => {
    const { admin, codes } = await stage()
    admin.known.delete('orders.g.retry.1000')
    admin.known.delete('orders.g.dead')
    admin.add('orders.g.retry.77', { partitions: 1, replication: 1, config: {} })
    const found = await codes()
    expect(found).toContain('error kafka.topic-missing orders.g.retry.1000')
    expect(found).toContain('error kafka.topic-missing orders.g.dead')
    expect(found).toContain('warning kafka.replication orders.g.retry.77')
  })

  it('names what was deleted before it was consumed, as an error', async () => {
    const { admin, codes } = await stage()
    const [log] = admin.topic('orders').logs
    log!.begin = log!.end = 5n
    expect(await codes()).toContain('error kafka.data-loss orders.g')
  })

  it('says the same as errors when strict', async () => {
    const { admin, codes } = await stage({ strict: true })
    admin.topic('orders').config['min.insync.replicas'] = '1'
    expect(await codes()).toEqual([...FLUSH, 'error kafka.min-insync orders'])
  })
})

describe('the audit of the connection', () => {
  const codes = (options: KafkaOptions) =>
    auditConnection(resolveOptions(options)).map(({ code, subject }) => `${code} ${subject}`)
  const plain = { mechanism: 'plain', username: 'a', password: 'b' } as const

  it('names addresses off this host without encryption', () => {
    expect(codes({ brokers: ['localhost', '127.0.0.1:1', 'kafka.example:9092'] })).toEqual([
      'kafka.plaintext kafka.example:9092',
    ])
    expect(codes({ brokers: 'kafka.example', tls: true })).toEqual([])
    const [found] = auditConnection(resolveOptions({ brokers: 'kafka.example', sasl: plain }))
    expect(found?.message).toMatch(/^password and messages/)
  })

  it('names a certificate that nobody looks at', () => {
    expect(codes({ brokers: 'kafka.example', tls: { rejectUnauthorized: false } })).toEqual([
      'kafka.tls-unverified tls.rejectUnauthorized',
    ])
  })
})
