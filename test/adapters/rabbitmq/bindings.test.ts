import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { sharedNode } from '../../brokers/shared-node.ts'
import { BrokerStage, envelopeTo, hastyClock, sent, soon, topologyOf } from './broker-stage.ts'

let stage: BrokerStage
beforeEach(async () => void (stage = await BrokerStage.on(sharedNode())))
afterEach(() => stage.close())

const everybody = { groups: ['a', 'b'] }

describe('bindings', () => {
  it('refuses publishes to a topic whose group lost its binding, and names the group, until it is bound again', async () => {
    const maker = await stage.open()
    await maker.broker.provision(topologyOf('orders', everybody), 'create')
    await maker.broker.provision(topologyOf('other'), 'create')
    const { broker, states, events } = await stage.open(
      { managementUrl: stage.managementUrl },
      hastyClock,
    )
    await broker.provision(topologyOf('orders', everybody), 'verify')
    await broker.provision(topologyOf('other'), 'verify')
    expect(await sent(broker, envelopeTo('orders', 'one'))).toEqual({ status: 'confirmed' })
    const operator = await stage.channel()
    await operator.unbindQueue('orders.b', 'orders', '#')
    await soon('it is noticed', () => states.at(-1)?.status === 'degraded')
    expect(states.at(-1)?.reason).toMatch(/group "b" would not get it/)
    expect(await sent(broker, envelopeTo('orders', 'two'))).toMatchObject({
      status: 'refused',
      error: { name: 'UnroutableError', code: 'unroutable', message: /group "b"/, retryable: true },
    })
    expect(await sent(broker, envelopeTo('other', 'three'))).toEqual({ status: 'confirmed' })
    expect(await broker.inspect!.depth({ kind: 'topic', topic: 'orders' })).toBe(2)
    expect(events.map((event) => 'code' in event && event.code)).toContain(
      'rabbitmq.bindings-missing',
    )
    await operator.bindQueue('orders.b', 'orders', '#')
    await soon('it is whole again', () => states.at(-1)?.status === 'up')
    expect(await sent(broker, envelopeTo('orders', 'four'))).toEqual({ status: 'confirmed' })
  })

  it('makes a lost binding again in mode create, and says so', async () => {
    const { broker, events } = await stage.open({ managementUrl: stage.managementUrl }, hastyClock)
    await broker.provision(topologyOf('orders', { ...everybody, partitions: 2 }), 'create')
    const operator = await stage.channel()
    await operator.unbindQueue('orders.b.1', 'orders', '1')
    await soon('it was made again', () =>
      events.some((event) => 'code' in event && event.code === 'rabbitmq.bindings-made'),
    )
    expect(await stage.bindings('orders')).toContain('1 → orders.b.1')
  })

  it('makes a deleted queue again without the management API', async () => {
    const { broker, events, states } = await stage.open({}, hastyClock)
    await broker.provision(topologyOf('orders', everybody), 'create')
    const operator = await stage.channel()
    await operator.deleteQueue('orders.b')
    await soon('it was made again', () =>
      events.some((event) => 'code' in event && event.code === 'rabbitmq.bindings-made'),
    )
    expect(states.map(({ status }) => status)).toContain('degraded')
    await soon('it is whole again', () => states.at(-1)?.status === 'up')
    expect(await stage.bindings('orders')).toEqual(['# → orders.a', '# → orders.b'])
    expect(await stage.arguments('orders.b')).toMatchObject({ 'x-queue-type': 'quorum' })
    expect(await sent(broker, envelopeTo('orders', 'one'))).toEqual({ status: 'confirmed' })
    expect(await broker.inspect!.depth({ kind: 'topic', topic: 'orders' })).toBe(2)
  })

  it('makes a deleted dead-letter queue and retry level again, and says so', async () => {
    const { broker, events } = await stage.open({}, hastyClock)
    const topology = topologyOf('orders', { groups: ['a'], retryLevelsMs: [1_000] })
    await broker.provision(topology, 'create')
    const said = (name: string): boolean =>
      events.some(
        (event) =>
          'code' in event &&
          event.code === 'rabbitmq.companion-missing' &&
          event.message.includes(`"${name}"`),
      )
    const operator = await stage.channel()
    await operator.deleteQueue('orders.a.dead')
    await soon('it is noticed', () => said('orders.a.dead'))
    expect(await stage.queues()).toContain('orders.a.dead')
    await operator.deleteQueue('orders.a.retry.1000')
    await soon('it is noticed', () => said('orders.a.retry.1000'))
    expect(await stage.queues()).toContain('orders.a.retry.1000')
  })

  it('only says that a dead-letter queue is gone in mode verify', async () => {
    const maker = await stage.open()
    const topology = topologyOf('orders', { groups: ['a'] })
    await maker.broker.provision(topology, 'create')
    const { broker, events } = await stage.open({}, hastyClock)
    await broker.provision(topology, 'verify')
    await (await stage.channel()).deleteQueue('orders.a.dead')
    await soon('it is noticed', () =>
      events.some((event) => 'code' in event && event.code === 'rabbitmq.companion-missing'),
    )
    expect(await stage.queues()).not.toContain('orders.a.dead')
  })

  it('binds again what was only unbound, without the management API', async () => {
    const { broker } = await stage.open({}, hastyClock)
    await broker.provision(topologyOf('orders', everybody), 'create')
    const operator = await stage.channel()
    await operator.unbindQueue('orders.a', 'orders', '#')
    await soon('it is bound', async () => (await stage.bindings('orders')).length === 2)
  })

  it('looks right after a reconnect, not only every minute', async () => {
    const { broker, states } = await stage.open({ managementUrl: stage.managementUrl })
    await broker.provision(topologyOf('orders', everybody), 'verify').catch(() => undefined)
    await broker.provision(topologyOf('orders', everybody), 'create')
    const operator = await stage.channel()
    await operator.unbindQueue('orders.b', 'orders', '#')
    const connections = `vhosts/${encodeURIComponent(stage.vhost.name)}/connections`
    await soon('the connection is listed', async () => {
      const listed = await stage.management.get<{ name: string }[]>(connections)
      const ours = listed.filter(({ name }) => name !== undefined)
      for (const { name } of ours) {
        await stage.management.delete(`connections/${encodeURIComponent(name)}`)
      }
      return ours.length > 0
    })
    await soon('it was away', () => states.some(({ status }) => status === 'down'))
    await soon('it is bound again', async () => (await stage.bindings('orders')).length === 2)
  })

  it('changes nothing while the management API does not answer', async () => {
    const maker = await stage.open()
    await maker.broker.provision(topologyOf('orders', everybody), 'create')
    const { broker, states, events } = await stage.open(
      { managementUrl: 'http://127.0.0.1:9' },
      hastyClock,
    )
    await broker.provision(topologyOf('orders', everybody), 'verify')
    await soon('it was asked', () =>
      events.some((event) => 'code' in event && event.code === 'rabbitmq.bindings'),
    )
    expect(states.at(-1)).toEqual({ status: 'up', reason: null })
    expect(await sent(broker, envelopeTo('orders', 'one'))).toEqual({ status: 'confirmed' })
  })

  it('refuses what a group would miss whose mapped queue is gone, also without the management API', async () => {
    const operator = await stage.channel()
    await operator.assertExchange('legacy', 'fanout')
    await operator.assertQueue('legacy-a')
    await operator.bindQueue('legacy-a', 'legacy', '')
    const map = { orders: { exchange: 'legacy', groups: { a: { queue: 'legacy-a' } } } }
    const { broker, states } = await stage.open({ map, allowDropOnLimit: true }, hastyClock)
    await broker.provision(topologyOf('orders', everybody), 'create')
    await operator.deleteQueue('legacy-a')
    await soon('it is noticed', () => states.at(-1)?.status === 'degraded')
    expect(await sent(broker, envelopeTo('orders', 'one'))).toMatchObject({
      status: 'refused',
      error: { code: 'unroutable', message: /group "a"/ },
    })
    expect(await stage.queues()).not.toContain('legacy-a')
  })
})
