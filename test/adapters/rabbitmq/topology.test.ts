import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import type { RabbitmqNode } from '../../brokers/rabbitmq-node.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { BrokerStage, envelopeTo, sent, soon, topicOf, topologyOf } from './broker-stage.ts'

let old: OwnNode
beforeAll(async () => void (old = await startNode({ version: 'old' })))
afterAll(() => old.remove())

const versions: readonly (readonly [string, () => RabbitmqNode])[] = [
  ['RabbitMQ 4.3', () => sharedNode()],
  ['RabbitMQ before 4.3', () => old.node],
]

/** How long the broker waits before it tries again to hand on what expired; 180 000 unless told otherwise. */
async function pauseOfDeadLetters(node: RabbitmqNode, ms: number): Promise<void> {
  const setting = 'dead_letter_worker_publisher_confirm_timeout'
  await node.ctl('eval', `application:set_env(rabbit, ${setting}, ${ms}).`)
}

describe.each(versions)('topology on %s', (_, nodeOf) => {
  let stage: BrokerStage
  beforeEach(async () => void (stage = await BrokerStage.on(nodeOf())))
  afterEach(() => stage.close())

  it('makes exchange, group, dead-letter and retry queues with the settings the promise needs', async () => {
    const { broker } = await stage.open()
    const topology = topologyOf('orders', { groups: ['a', 'b'], retryLevelsMs: [1_000, 5_000] })
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await stage.queues()).toEqual(
      ['a', 'b'].flatMap((group) =>
        ['', '.dead', '.retry.1000', '.retry.5000'].map((end) => `orders.${group}${end}`),
      ),
    )
    expect(await stage.arguments('orders.a')).toEqual({
      'x-queue-type': 'quorum',
      'x-overflow': 'reject-publish',
      'x-delivery-limit': 20,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'orders.a.dead',
      'x-dead-letter-strategy': 'at-least-once',
    })
    expect(await stage.arguments('orders.a.retry.1000')).toEqual({
      'x-queue-type': 'quorum',
      'x-overflow': 'reject-publish',
      'x-message-ttl': 1_000,
      'x-dead-letter-exchange': '',
      'x-dead-letter-strategy': 'at-least-once',
    })
    expect(await stage.arguments('orders.a.dead')).toMatchObject({ 'x-queue-type': 'quorum' })
    expect(await stage.bindings('orders')).toEqual(['# → orders.a', '# → orders.b'])
    expect(await stage.bindings('orders.b.retry.5000')).toEqual([' → orders.b.retry.5000'])
  })

  it('changes nothing and finds nothing when it is asked again, by whichever process', async () => {
    const { broker } = await stage.open()
    const other = await stage.open()
    const topology = topologyOf('orders', { retryLevelsMs: [1_000], ordering: 'key' })
    await broker.provision(topology, 'create')
    const channel = await stage.channel()
    channel.sendToQueue('orders.a', Buffer.from('kept'))
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await other.broker.provision(topology, 'create')).toEqual([])
    await soon('kept', async () => (await channel.checkQueue('orders.a')).messageCount === 1)
  })

  it('makes partitions as queues with a single active consumer, each bound by its number', async () => {
    const { broker } = await stage.open()
    const topology = topologyOf('orders', { partitions: 3, ordering: 'key' })
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await stage.bindings('orders')).toEqual([
      '0 → orders.a.0',
      '1 → orders.a.1',
      '2 → orders.a.2',
    ])
    expect(await stage.arguments('orders.a.2')).toMatchObject({
      'x-single-active-consumer': true,
      'x-dead-letter-routing-key': 'orders.a.dead',
    })
    for (const key of ['k1', 'k2', 'k3', 'k4']) {
      expect(await sent(broker, envelopeTo('orders', key, key))).toMatchObject({
        status: 'confirmed',
      })
    }
    expect(await broker.inspect?.depth({ kind: 'topic', topic: 'orders' })).toBe(4)
  })

  it('names queues that another number of partitions left behind', async () => {
    const before = await stage.open()
    await before.broker.provision(topologyOf('orders', { partitions: 3 }), 'create')
    const { broker, events } = await stage.open()
    const findings = await broker.provision(topologyOf('orders', { partitions: 2 }), 'create')
    expect(findings).toMatchObject([
      { severity: 'warning', code: 'rabbitmq.queue-left', subject: 'orders.a.2' },
    ])
    expect(events).toMatchObject([{ type: 'warning', code: 'rabbitmq.queue-left' }])
    const again = await stage.open()
    const without = await again.broker.provision(topologyOf('orders'), 'create')
    expect(without).toMatchObject([{ code: 'rabbitmq.queue-left', subject: 'orders.a.0' }])
  })

  it('refuses two numbers of partitions in one process', async () => {
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders', { partitions: 3 }), 'create')
    const findings = await broker.provision(topologyOf('orders'), 'create')
    expect(findings).toMatchObject([
      { severity: 'error', code: 'rabbitmq.partitions', declared: 'none', found: '3' },
    ])
    expect(await stage.queues()).not.toContain('orders.a')
  })

  it('reports every difference of a queue that exists, declares the rest, and hurts no other channel', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('orders', 'topic')
    await operator.assertQueue('orders.a', {
      arguments: {
        'x-queue-type': 'quorum',
        'x-overflow': 'drop-head',
        'x-delivery-limit': 7,
        'x-message-ttl': 60_000,
      },
    })
    const { broker } = await stage.open()
    await broker.provision(topologyOf('other'), 'create')
    const outcomes = Promise.all(
      Array.from({ length: 50 }, (_, n) => sent(broker, envelopeTo('other', `m${n}`))),
    )
    const findings = await broker.provision(topologyOf('orders', { ordering: 'key' }), 'create')
    const seen = findings.map(
      ({ severity, code, subject, declared, found }) =>
        `${severity} ${code} ${subject}: ${declared}, ${found}`,
    )
    expect(seen.toSorted()).toEqual(
      [
        'error rabbitmq.queue-overflow orders.a: reject-publish, drop-head',
        'error rabbitmq.queue-message-ttl orders.a: none, 60000',
        'warning rabbitmq.queue-delivery-limit orders.a: 20, 7',
        'warning rabbitmq.queue-dead-letter-exchange orders.a: , none',
        'warning rabbitmq.queue-dead-letter-routing-key orders.a: orders.a.dead, none',
        'warning rabbitmq.queue-dead-letter-strategy orders.a: at-least-once, none',
        'warning rabbitmq.queue-single-active-consumer orders.a: true, none',
      ].toSorted(),
    )
    expect(await stage.queues()).toContain('orders.a.dead')
    expect(await stage.arguments('orders.a')).toMatchObject({ 'x-delivery-limit': 7 })
    expect((await outcomes).map(({ status }) => status)).toEqual(Array(50).fill('confirmed'))
  })

  it('reports an exchange of another type, and a queue that is not durable by its 406', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('orders', 'direct')
    const { broker } = await stage.open()
    expect(await broker.provision(topologyOf('orders'), 'create')).toMatchObject([
      {
        severity: 'error',
        code: 'rabbitmq.exchange-type',
        subject: 'orders',
        declared: 'topic',
        found: 'direct',
      },
    ])
  })

  it('refuses consumers that need the order of a queue without a single active consumer', async () => {
    const before = await stage.open()
    await before.broker.provision(topologyOf('orders', { ordering: 'none' }), 'create')
    const { broker } = await stage.open()
    const findings = await broker.provision(topologyOf('orders', { ordering: 'key' }), 'create')
    expect(findings).toMatchObject([
      { severity: 'warning', code: 'rabbitmq.queue-single-active-consumer' },
    ])
    const maxHeld = { messages: 10, bytes: 1_000_000 }
    const subscription = { topics: ['orders'], group: 'a', from: 'now', maxHeld } as const
    const sink = { deliver() {}, async revoking() {}, lost() {}, ended() {} }
    await expect(broker.receive({ ...subscription, ordering: 'key' }, sink)).rejects.toMatchObject({
      code: 'topology',
      message: /no single active consumer/,
    })
    const receiver = await broker.receive({ ...subscription, ordering: 'none' }, sink)
    await receiver.close(systemClock.now() + 5_000)
  })

  it('only looks in mode verify, also with a log-in that may declare nothing', async () => {
    const { broker: maker } = await stage.open()
    await maker.provision(topologyOf('orders', { retryLevelsMs: [1_000] }), 'create')
    const user = `looker-${stage.vhost.name}`
    await stage.management.put(`users/${user}`, { password: 'secret', tags: '' })
    const rights = { configure: '^$', write: '.*', read: '.*' }
    await stage.management.put(
      `permissions/${encodeURIComponent(stage.vhost.name)}/${user}`,
      rights,
    )
    const { broker } = await stage.open({
      credentials: async () => ({ username: user, password: 'secret' }),
    })
    const topology = topologyOf('orders', { retryLevelsMs: [1_000] })
    const found = await broker.provision(topology, 'verify')
    expect(found.map(({ severity }) => severity)).not.toContain('error')
    const missing = await broker.provision(
      topologyOf('absent', { retryLevelsMs: [1_000] }),
      'verify',
    )
    const errors = missing.filter(({ severity }) => severity === 'error')
    expect(errors.map(({ code, subject }) => `${code} ${subject}`).sort()).toEqual([
      'rabbitmq.exchange-missing absent',
      'rabbitmq.exchange-missing absent.a.retry.1000',
      'rabbitmq.queue-missing absent.a',
      'rabbitmq.queue-missing absent.a.dead',
      'rabbitmq.queue-missing absent.a.retry.1000',
    ])
    expect((await stage.queues()).filter((name) => name.startsWith('absent'))).toEqual([])
    await expect(broker.provision(topologyOf('absent'), 'create')).rejects.toMatchObject({
      code: 'rejected',
      message: /declaring exchange "absent": RabbitMQ said: ACCESS_REFUSED/,
    })
    await stage.management.delete(`users/${user}`)
  })

  it('finds differences and missing bindings in mode verify through the management API', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('orders', 'topic')
    await operator.assertQueue('orders.a', { arguments: { 'x-queue-type': 'classic' } })
    await operator.assertQueue('orders.a.dead', { arguments: { 'x-queue-type': 'quorum' } })
    const { managementUrl } = stage
    const { broker } = await stage.open({ managementUrl })
    await soon('policies are known', async () => {
      const path = `queues/${encodeURIComponent(stage.vhost.name)}/orders.a.dead`
      return 'effective_policy_definition' in (await stage.management.get<object>(path))
    })
    const findings = await broker.provision(topologyOf('orders'), 'verify')
    const codes = findings.map(({ code, subject, found }) => `${code} ${subject} ${found}`)
    expect(codes).toContain('rabbitmq.queue-queue-type orders.a classic')
    expect(codes).toContain('rabbitmq.queue-delivery-limit orders.a none')
    expect(codes).toContain('rabbitmq.binding-missing orders → orders.a undefined')
  })

  it('uses what is mapped as it is, and makes only what is its own', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('legacy', 'direct', { durable: true })
    const queue = { durable: true, arguments: { 'x-queue-type': 'classic', 'x-max-length': 1_000 } }
    await operator.assertQueue('legacy-billing', queue)
    await operator.bindQueue('legacy-billing', 'legacy', 'created')
    const groups = { billing: { queue: 'legacy-billing' } }
    const map = { orders: { exchange: 'legacy', routingKey: 'created', groups } }
    const { broker } = await stage.open({ map })
    const topology = topologyOf('orders', { groups: ['billing', 'new'], retryLevelsMs: [1_000] })
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await stage.bindings('legacy')).toEqual([
      'created → legacy-billing',
      'created → orders.new',
    ])
    expect(await stage.queues()).toEqual([
      'legacy-billing',
      'orders.billing.dead',
      'orders.billing.retry.1000',
      'orders.new',
      'orders.new.dead',
      'orders.new.retry.1000',
    ])
    expect(await stage.arguments('legacy-billing')).toEqual(queue.arguments)
    expect(await sent(broker, envelopeTo('orders', 'hello'))).toEqual({ status: 'confirmed' })
    expect(await broker.inspect?.depth({ kind: 'topic', topic: 'orders' })).toBe(2)
    await expect(
      broker.provision(topologyOf('orders', { partitions: 2 }), 'create'),
    ).rejects.toMatchObject({ name: 'CapabilityError', message: /mapped/ })
  })

  it('names mapped things that are not there', async () => {
    const map = { orders: { exchange: 'gone', groups: { a: { queue: 'gone-too' } } } }
    const { broker } = await stage.open({ map })
    const findings = await broker.provision(topologyOf('orders'), 'create')
    expect(findings).toMatchObject([
      { severity: 'error', code: 'rabbitmq.exchange-missing', subject: 'gone', message: /mapped/ },
      { severity: 'error', code: 'rabbitmq.queue-missing', subject: 'gone-too', message: /mapped/ },
    ])
    expect(await stage.queues()).not.toContain('gone-too')
  })

  it('brings a short retry back before a long one that came first, each to its own queue', async () => {
    const { broker } = await stage.open()
    const levels = { partitions: 2, retryLevelsMs: [500, 30_000] }
    await broker.provision(topologyOf('orders', levels), 'create')
    const to = { kind: 'group', topic: 'orders', group: 'a' } as const
    const keys = ['k1', 'k2', 'k3', 'k4', 'k5', 'k6']
    for (const key of keys) {
      await sent(broker, envelopeTo({ ...to, delayMs: 30_000 }, `long ${key}`, key))
      const outcome = await sent(broker, envelopeTo({ ...to, delayMs: 400 }, `short ${key}`, key))
      expect(outcome).toEqual({ status: 'confirmed' })
    }
    const all = { ...to, delayMs: 0 }
    await soon('all short ones are back', async () => (await broker.inspect!.depth(all)) === 6)
    expect(await broker.inspect!.depth({ ...to, delayMs: 30_000 })).toBe(6)
    for (const key of keys) await sent(broker, envelopeTo('orders', `topic ${key}`, key))
    const back = await broker.inspect!.browse(all, 100)
    expect(back.filter(({ body }) => Buffer.from(body!).toString().startsWith('long'))).toEqual([])
    const channel = await stage.channel()
    for (const queue of ['orders.a.0', 'orders.a.1']) {
      const found = new Map<string, string[]>()
      for (let message; (message = await channel.get(queue, { noAck: true }));) {
        const [how = '', key = ''] = message.content.toString().split(' ')
        found.set(how, [...(found.get(how) ?? []), key])
      }
      expect(found.get('short')?.sort()).toEqual(found.get('topic')?.sort())
    }
  })

  it('keeps retries whose group queue is away until it is there again', async () => {
    await pauseOfDeadLetters(stage.node, 2_000)
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders', { retryLevelsMs: [500] }), 'create')
    const to = { kind: 'group', topic: 'orders', group: 'a', delayMs: 500 } as const
    const operator = await stage.channel()
    await operator.deleteQueue('orders.a')
    for (let n = 0; n < 100; n++) {
      operator.publish('orders.a.retry.500', 'orders.a', Buffer.from(String(n)))
    }
    await soon('they wait', async () => (await broker.inspect!.depth(to)) > 0)
    await soon('they have expired', async () => (await broker.inspect!.depth(to)) === 0)
    await broker.provision(topologyOf('orders', { retryLevelsMs: [500] }), 'create')
    const queue = { ...to, delayMs: 0 }
    await soon('all came back', async () => (await broker.inspect!.depth(queue)) === 100)
    await pauseOfDeadLetters(stage.node, 180_000)
  })

  it('sends a message round the same level again and again without losing it', async () => {
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders', { retryLevelsMs: [200] }), 'create')
    const to = { kind: 'group', topic: 'orders', group: 'a' } as const
    let envelope = envelopeTo({ ...to, delayMs: 200 }, 'again')
    const channel = await stage.channel()
    for (let round = 0; round < 4; round++) {
      expect(await sent(broker, envelope)).toEqual({ status: 'confirmed' })
      await soon(
        `round ${round}`,
        async () => (await broker.inspect!.depth({ ...to, delayMs: 0 })) === 1,
      )
      const [back] = await broker.inspect!.browse({ ...to, delayMs: 0 }, 1)
      await channel.purgeQueue('orders.a')
      envelope = { ...back!, to: { ...to, delayMs: 200 } }
    }
    expect(Buffer.from(envelope.body!).toString()).toBe('again')
  })

  it('makes settings a policy where the management API is there, and finds one that differs', async () => {
    const { managementUrl } = stage
    const { broker } = await stage.open({ managementUrl })
    const topology = topologyOf('orders', {
      partitions: 2,
      ordering: 'key',
      retryLevelsMs: [1_000],
    })
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await stage.arguments('orders.a.1')).toEqual({
      'x-queue-type': 'quorum',
      'x-single-active-consumer': true,
    })
    const vhost = encodeURIComponent(stage.vhost.name)
    const policies = await stage.management.get<{ name: string; pattern: string }[]>(
      `policies/${vhost}`,
    )
    expect(policies.map(({ name }) => name).sort()).toEqual([
      'holdfast.orders.a',
      'holdfast.orders.a.dead',
      'holdfast.orders.a.retry.1000',
    ])
    const to = { kind: 'group', topic: 'orders', group: 'a' } as const
    await sent(broker, envelopeTo({ ...to, delayMs: 1_000 }, 'late', 'k'))
    await soon(
      'the policy delays',
      async () => (await broker.inspect!.depth({ ...to, delayMs: 0 })) === 1,
    )
    // Somebody without the management API finds nothing that stops it.
    const plain = await stage.open()
    const found = await plain.broker.provision(topology, 'create')
    expect(found.map(({ severity }) => severity)).not.toContain('error')
    const changed = {
      pattern: '^orders\\.a(\\.[0-9]+)?$',
      definition: { 'delivery-limit': 5 },
      priority: 1,
    }
    await stage.management.put(`policies/${vhost}/holdfast.orders.a`, {
      ...changed,
      'apply-to': 'queues',
    })
    const after = await broker.provision(topology, 'create')
    expect(after.filter(({ code }) => code === 'rabbitmq.policy')).toMatchObject([
      { severity: 'warning', subject: 'holdfast.orders.a', found: /"delivery-limit":5/ },
    ])
    expect(await broker.provision(topologyOf('more'), 'create')).toEqual([])
  })

  it('makes settings arguments when the log-in may set no policies', async () => {
    const user = `plain-${stage.vhost.name}`
    await stage.management.put(`users/${user}`, { password: 'secret', tags: 'monitoring' })
    const rights = { configure: '.*', write: '.*', read: '.*' }
    await stage.management.put(
      `permissions/${encodeURIComponent(stage.vhost.name)}/${user}`,
      rights,
    )
    const { broker, events } = await stage.open({
      managementUrl: stage.managementUrl,
      credentials: async () => ({ username: user, password: 'secret' }),
    })
    expect(await broker.provision(topologyOf('orders'), 'create')).toEqual([])
    expect(await stage.arguments('orders.a')).toMatchObject({ 'x-delivery-limit': 20 })
    expect(events).toMatchObject([
      { code: 'rabbitmq.policy', message: /policymaker/ },
      { code: 'rabbitmq.policy', message: /policymaker/ },
    ])
    await stage.management.delete(`users/${user}`)
  })

  it('goes on with what is there while the management API is away', async () => {
    await (await stage.open()).broker.provision(topologyOf('orders'), 'create')
    const { broker } = await stage.open({ managementUrl: 'http://127.0.0.1:9' })
    const findings = await broker.provision(topologyOf('orders'), 'verify')
    expect(findings).toMatchObject([{ severity: 'warning', code: 'rabbitmq.bindings-unseen' }])
  })

  it('needs no management API to go on with queues that are there, and binds them', async () => {
    await (await stage.open()).broker.provision(topologyOf('orders'), 'create')
    const operator = await stage.channel()
    await operator.unbindQueue('orders.a', 'orders', '#')
    const { broker } = await stage.open({ managementUrl: 'http://127.0.0.1:9' })
    const findings = await broker.provision(topologyOf('orders'), 'create')
    expect(findings.map(({ severity, code, subject }) => [severity, code, subject])).toEqual([
      ['warning', 'rabbitmq.not-declared', 'orders.a.dead'],
      ['warning', 'rabbitmq.not-declared', 'orders.a'],
    ])
    expect(await stage.bindings('orders')).toEqual(['# → orders.a'])
    await expect(broker.provision(topologyOf('fresh'), 'create')).rejects.toMatchObject({
      code: 'unavailable',
      message: /management API http:\/\/127\.0\.0\.1:9/,
    })
    expect(await stage.queues()).not.toContain('fresh.a')
  })

  it('puts the prefix of the environment before every name', async () => {
    const { broker } = await stage.open({ prefix: 'dev.' })
    await broker.provision(topologyOf('orders', { retryLevelsMs: [1_000] }), 'create')
    expect(await stage.queues()).toEqual([
      'dev.orders.a',
      'dev.orders.a.dead',
      'dev.orders.a.retry.1000',
    ])
    expect(await sent(broker, envelopeTo('orders', 'x'))).toEqual({ status: 'confirmed' })
  })

  it('makes classic group queues where that is chosen, and keeps retries on quorum queues', async () => {
    const { broker } = await stage.open({ queueType: 'classic' })
    const topology = topologyOf('orders', { retryLevelsMs: [1_000], ordering: 'key' })
    expect(await broker.provision(topology, 'create')).toEqual([])
    expect(await stage.arguments('orders.a')).toEqual({
      'x-queue-type': 'classic',
      'x-overflow': 'reject-publish',
      'x-single-active-consumer': true,
    })
    expect(await stage.arguments('orders.a.retry.1000')).toMatchObject({ 'x-queue-type': 'quorum' })
  })

  it('refuses names that fit no broker before anything is declared', async () => {
    const { broker } = await stage.open({ prefix: 'a-long-prefix-of-the-environment.' })
    const name = 'x'.repeat(210)
    const topology = { topics: [topicOf(name, { groups: ['group'] })] }
    await expect(broker.provision(topology, 'create')).rejects.toMatchObject({
      message: /at most 249/,
    })
    expect(await stage.queues()).toEqual([])
  })
})
