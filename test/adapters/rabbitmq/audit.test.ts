import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { auditConnection } from '../../../adapters/rabbitmq/audit.ts'
import { resolveOptions } from '../../../adapters/rabbitmq/options.ts'
import type { Finding } from '../../../src/contract/topology.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import type { RabbitmqNode } from '../../brokers/rabbitmq-node.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { BrokerStage, soon, topologyOf } from './broker-stage.ts'

let old: OwnNode
beforeAll(async () => void (old = await startNode({ version: 'old' })))
afterAll(() => old.remove())

const versions: readonly (readonly [string, () => RabbitmqNode])[] = [
  ['RabbitMQ 4.3', () => sharedNode()],
  ['RabbitMQ before 4.3', () => old.node],
]

const subscription = {
  topics: ['orders'],
  group: 'a',
  ordering: 'none',
  from: 'now',
  maxHeld: { messages: 10, bytes: 1_000_000 },
} as const
const sink = { deliver() {}, async revoking() {}, lost() {}, ended() {} }

/** A vhost of one node always has these. */
const always = ['rabbitmq.cluster-size']

function codes(findings: readonly Finding[]): readonly string[] {
  return findings.map(({ code }) => code).filter((code) => !always.includes(code))
}

describe.each(versions)('the audit on %s', (_, nodeOf) => {
  let stage: BrokerStage
  beforeEach(async () => void (stage = await BrokerStage.on(nodeOf())))
  afterEach(() => stage.close())

  /** What the plugin says of a queue has its policies some seconds after it was made. */
  const policiesKnown = (): Promise<unknown> =>
    soon('policies are known', async () => {
      const path = `queues/${encodeURIComponent(stage.vhost.name)}`
      const queues = await stage.management.get<readonly object[]>(path)
      return queues.every((queue) => 'effective_policy_definition' in queue)
    })

  it('finds nothing but the single node in what it made itself', async () => {
    const { broker } = await stage.open({ managementUrl: stage.managementUrl })
    const topology = topologyOf('orders', {
      partitions: 2,
      ordering: 'key',
      retryLevelsMs: [1_000],
    })
    await broker.provision(topology, 'create')
    await policiesKnown()
    const findings = await broker.audit(topology)
    expect(findings).toMatchObject([
      { severity: 'warning', code: 'rabbitmq.cluster-size', declared: 'at least 3', found: '1' },
    ])
  })

  it('says without the management API that it saw only part', async () => {
    const { broker } = await stage.open()
    const findings = await broker.audit(topologyOf('orders'))
    expect(findings.map(({ severity, code, subject }) => [severity, code, subject])).toEqual([
      ['info', 'rabbitmq.audit-partial', 'managementUrl'],
      ['error', 'rabbitmq.exchange-missing', 'orders'],
      ['error', 'rabbitmq.queue-missing', 'orders.a.dead'],
      ['error', 'rabbitmq.queue-missing', 'orders.a'],
    ])
  })

  it('names what is weak about mapped things', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('legacy', 'topic', { alternateExchange: 'elsewhere' })
    await operator.assertQueue('classic', {
      arguments: { 'x-message-ttl': 1_000, 'x-max-length': 5 },
    })
    await operator.assertQueue('drops', { arguments: { 'x-queue-type': 'quorum' } })
    const groups = { a: { queue: 'classic' }, b: { queue: 'drops' } }
    const map = { orders: { exchange: 'legacy', groups } }
    const { broker } = await stage.open({ map, managementUrl: stage.managementUrl })
    const topology = topologyOf('orders', { groups: ['a', 'b'] })
    await broker.provision(topology, 'create')
    const findings = await broker.audit(topology)
    const seen = findings.map(({ severity, code, subject }) => `${severity} ${code} ${subject}`)
    for (const expected of [
      'warning rabbitmq.exchange-alternate legacy',
      'warning rabbitmq.queue-queue-type classic',
      'warning rabbitmq.queue-message-ttl classic',
      'error rabbitmq.queue-max-length classic',
      'error rabbitmq.queue-delivery-limit drops',
    ]) {
      expect(seen).toContain(expected)
    }
  })

  it('refuses to consume from a mapped queue that drops at its delivery limit, unless that is allowed', async () => {
    const operator = await stage.channel()
    await operator.assertQueue('drops', { arguments: { 'x-queue-type': 'quorum' } })
    const map = { orders: { exchange: '', routingKey: 'drops', groups: { a: { queue: 'drops' } } } }
    const { managementUrl } = stage
    const { broker } = await stage.open({ map, managementUrl })
    await expect(broker.receive(subscription, sink)).rejects.toMatchObject({
      code: 'topology',
      message: /"drops" is mapped and has no dead-letter exchange/,
    })
    const allowing = await stage.open({ map, managementUrl, allowDropOnLimit: true })
    await allowing.broker.receive(subscription, sink)
    const blind = await stage.open({ map })
    await blind.broker.receive(subscription, sink)
    expect(blind.events).toMatchObject([{ type: 'warning', code: 'rabbitmq.drop-on-limit' }])
    const safe = { pattern: '^drops$', definition: { 'dead-letter-exchange': 'dlx' } }
    const vhost = encodeURIComponent(stage.vhost.name)
    await stage.management.put(`policies/${vhost}/safe`, { ...safe, 'apply-to': 'queues' })
    await soon('the policy counts', () =>
      broker.receive(subscription, sink).then(
        () => true,
        () => false,
      ),
    )
  })

  it('takes a group queue of ours without a dead-letter exchange for an error, unless dropping is allowed', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('orders', 'topic')
    const args = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish' }
    await operator.assertQueue('orders.a', { arguments: args })
    await policiesKnown()
    const { managementUrl } = stage
    const topology = topologyOf('orders')
    const of = async (given: { allowDropOnLimit?: boolean }): Promise<readonly string[]> => {
      const { broker } = await stage.open({ managementUrl, ...given })
      const found = [
        ...(await broker.provision(topology, 'verify')),
        ...(await broker.audit(topology)),
      ]
      const one = found.filter(({ code }) => code === 'rabbitmq.queue-dead-letter-exchange')
      return one.map(({ severity }) => severity)
    }
    expect(await of({})).toEqual(['error', 'error'])
    expect(await of({ allowDropOnLimit: true })).toEqual(['warning', 'warning'])
  })

  it('keeps ordered consumers off a mapped queue without a single active consumer', async () => {
    const operator = await stage.channel()
    const safe = { 'x-queue-type': 'quorum', 'x-dead-letter-exchange': 'dlx' }
    await operator.assertQueue('many', { arguments: safe })
    const single = { ...safe, 'x-single-active-consumer': true }
    await operator.assertQueue('single', { arguments: single })
    const mapTo = (queue: string) => ({
      orders: { exchange: '', routingKey: queue, groups: { a: { queue } } },
    })
    const ordered = { ...subscription, ordering: 'key' } as const
    const { managementUrl } = stage
    const seen = await stage.open({ map: mapTo('many'), managementUrl })
    await expect(seen.broker.receive(ordered, sink)).rejects.toMatchObject({
      code: 'topology',
      message: /"many"/,
    })
    await seen.broker.receive(subscription, sink)
    const right = await stage.open({ map: mapTo('single'), managementUrl })
    await right.broker.receive(ordered, sink)
    expect(right.events).toEqual([])
    const blind = await stage.open({ map: mapTo('many'), allowDropOnLimit: true })
    await blind.broker.receive(ordered, sink)
    expect(blind.events).toMatchObject([{ type: 'warning', code: 'rabbitmq.order-unseen' }])
  })

  it('names alarms', async () => {
    const clear = await stage.node.memoryAlarm()
    try {
      const { broker } = await stage.open({ managementUrl: stage.managementUrl })
      await soon('the alarm is known', async () =>
        codes(await broker.audit({ topics: [] })).includes('rabbitmq.memory-alarm'),
      )
    } finally {
      await clear()
    }
  })

  it('names connections to a broker that anybody may pretend to be', async () => {
    const { broker } = await stage.open({ tls: { rejectUnauthorized: false } })
    expect(codes(await broker.audit({ topics: [] }))).toContain('rabbitmq.tls-unverified')
  })
})

describe('the audit of addresses', () => {
  it.each([
    ['amqp://localhost', false],
    ['amqp://127.0.0.1:5673/v', false],
    ['amqp://[::1]', false],
    ['amqps://broker.example', false],
    ['amqp://user:secret@broker.example', true],
  ])('names what others on the network can read: %s, %s', (url, isWeak) => {
    const findings = auditConnection(resolveOptions({ url }))
    expect(findings.map(({ code }) => code)).toEqual(isWeak ? ['rabbitmq.plain-amqp'] : [])
    expect(JSON.stringify(findings)).not.toContain('secret')
  })
})
