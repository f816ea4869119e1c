import { createServer } from 'node:net'

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { rabbitmq } from '../../../adapters/rabbitmq/broker.ts'
import type { Delivery, DeliverySink, Source } from '../../../src/contract/broker.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliableConsumer } from '../../../src/consume/consumer.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import type { RabbitmqNode } from '../../brokers/rabbitmq-node.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { within } from '../../conformance/wait.ts'
import {
  BrokerStage,
  contextOf,
  envelopeTo,
  openBroker,
  sent,
  soon,
  topologyOf,
} from './broker-stage.ts'

let old: OwnNode
beforeAll(async () => void (old = await startNode({ version: 'old' })))
afterAll(() => old.remove())

const versions: readonly (readonly [string, () => RabbitmqNode])[] = [
  ['RabbitMQ 4.3', () => sharedNode()],
  ['RabbitMQ before 4.3', () => old.node],
]

const quiet: DeliverySink = { deliver() {}, async revoking() {}, lost() {}, ended() {} }
const subscription = {
  topics: ['orders'],
  group: 'a',
  ordering: 'none',
  from: 'now',
  maxHeld: { messages: 10, bytes: 1_000_000 },
} as const

describe.each(versions)('the broker on %s', (_, nodeOf) => {
  let stage: BrokerStage
  beforeEach(async () => void (stage = await BrokerStage.on(nodeOf())))
  afterEach(() => stage.close())

  const soonClosed = (): number => systemClock.now() + 5_000

  it('opens once for all who ask, closes, and opens again', async () => {
    const { broker, states } = await stage.open()
    const again = await broker.open(contextOf([]))
    expect(again).toBe(await broker.open(contextOf([])))
    expect(states.at(-1)).toEqual({ status: 'up', reason: null })
    await broker.close(soonClosed())
    expect(states.at(-1)).toEqual({ status: 'down', reason: 'not open' })
    expect(() => broker.sender('publish')).toThrow(/broker is closed/)
    await expect(broker.provision(topologyOf('orders'), 'create')).rejects.toMatchObject({
      code: 'closed',
    })
    await broker.open(contextOf([]))
    await broker.provision(topologyOf('orders'), 'create')
    expect(await sent(broker, envelopeTo('orders', 'one'))).toEqual({ status: 'confirmed' })
  })

  it('leaves no connection behind', async () => {
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders'), 'create')
    await sent(broker, envelopeTo('orders', 'one'))
    await broker.receive(subscription, quiet)
    await broker.close(soonClosed())
    const path = `vhosts/${encodeURIComponent(stage.vhost.name)}/connections`
    await soon('no connection', async () => (await stage.management.get<[]>(path)).length === 0)
  })

  it('goes on opening until it is closed while nobody listens', async () => {
    const broker = rabbitmq({ url: 'amqp://127.0.0.1:9' })
    const states: string[] = []
    broker.onState(({ status, reason }) => void states.push(`${status} ${reason}`))
    const opening = broker.open(contextOf([]))
    const failed = expect(opening).rejects.toMatchObject({ code: 'closed' })
    await soon('it tried', () => states.some((state) => /ECONNREFUSED/.test(state)))
    await within(systemClock, 5_000, 'close()', broker.close(soonClosed()))
    await failed
    expect(states.at(-1)).toBe('down not open')
  })

  it('closes in time while a server accepts and says nothing', async () => {
    const mute = createServer((socket) => socket.on('error', () => undefined))
    const port = await new Promise<number>((resolve) => {
      mute.listen(0, '127.0.0.1', () => resolve((mute.address() as { port: number }).port))
    })
    const broker = rabbitmq({ url: `amqp://127.0.0.1:${port}` })
    const opening = broker.open(contextOf([]))
    const failed = expect(opening).rejects.toMatchObject({ code: 'closed' })
    const startedAt = systemClock.now()
    await within(systemClock, 10_000, 'close()', broker.close(systemClock.now() + 1_000))
    await failed
    expect(systemClock.now() - startedAt).toBeLessThan(7_000)
    mute.close()
  })

  it('gives up opening when its context aborts', async () => {
    const broker = rabbitmq({ url: 'amqp://127.0.0.1:9' })
    const controller = new AbortController()
    const opening = broker.open({ ...contextOf([]), signal: controller.signal })
    controller.abort(new Error('no longer wanted'))
    await expect(opening).rejects.toThrow('no longer wanted')
    await broker.close(soonClosed())
  })

  it('says down while it is away and up when it is back, and goes on', async () => {
    const { broker, states } = await stage.open()
    await broker.provision(topologyOf('orders'), 'create')
    states.length = 0
    const path = `vhosts/${encodeURIComponent(stage.vhost.name)}/connections`
    await soon('the connection is listed', async () => {
      const listed = await stage.management.get<{ name?: string }[]>(path)
      for (const { name } of listed) {
        if (name) await stage.management.delete(`connections/${encodeURIComponent(name)}`)
      }
      return listed.length > 0
    })
    await soon('it is back', () => states.at(-1)?.status === 'up')
    expect(states[0]).toMatchObject({ status: 'down', reason: /CONNECTION_FORCED/ })
    expect(await broker.provision(topologyOf('orders'), 'create')).toEqual([])
  })

  it('is degraded, not down, while one of its connections is away', async () => {
    const { broker, states } = await stage.open()
    await broker.provision(topologyOf('orders'), 'create')
    const receiver = await broker.receive(subscription, quiet)
    states.length = 0
    const path = `vhosts/${encodeURIComponent(stage.vhost.name)}/connections`
    await soon('the connection is listed', async () => {
      const listed =
        await stage.management.get<
          { name: string; client_properties?: { connection_name?: string } }[]
        >(path)
      const consuming = listed.find(({ client_properties }) =>
        client_properties?.connection_name?.includes('consuming'),
      )
      if (consuming === undefined) return false
      await stage.management.delete(`connections/${encodeURIComponent(consuming.name)}`)
      return true
    })
    await soon('it is back', () => states.at(-1)?.status === 'up')
    expect(states.map(({ status }) => status)).toEqual(['degraded', 'up'])
    await receiver.close(soonClosed())
    expect(states.at(-1)?.status).toBe('up')
  })

  it('refuses what queues cannot give when it is asked to receive', async () => {
    const { broker } = await stage.open()
    await expect(
      broker.receive({ ...subscription, from: 'earliest' }, quiet),
    ).rejects.toMatchObject({ name: 'CapabilityError', message: /'earliest' needs history/ })
    await expect(broker.receive(subscription, quiet)).rejects.toMatchObject({ code: 'topology' })
  })

  it('shows what is in queues and leaves it there, in its order', async () => {
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders', { retryLevelsMs: [60_000] }), 'create')
    const dead = { kind: 'dead', topic: 'orders', group: 'a' } as const
    const group = { kind: 'group', topic: 'orders', group: 'a' } as const
    for (let n = 0; n < 5; n++) await sent(broker, envelopeTo(dead, `dead ${n}`, 'k'))
    await sent(broker, envelopeTo({ ...group, delayMs: 60_000 }, 'later'))
    const inspect = broker.inspect!
    for (let round = 0; round < 25; round++) {
      const seen = await inspect.browse(dead, 3)
      expect(seen.map(({ body }) => Buffer.from(body!).toString())).toEqual([
        'dead 0',
        'dead 1',
        'dead 2',
      ])
      expect(await inspect.depth(dead)).toBe(5)
    }
    expect(await inspect.depth({ ...group, delayMs: 60_000 })).toBe(1)
    expect(await inspect.depth({ ...group, delayMs: 0 })).toBe(0)
    expect(await inspect.browse({ ...group, delayMs: 0 }, 3)).toEqual([])
    await expect(inspect.depth({ ...group, group: 'nobody', delayMs: 0 })).rejects.toMatchObject({
      code: 'topology',
    })
  })

  it('says that a queue with a single active consumer cannot be looked into', async () => {
    const { broker } = await stage.open()
    await broker.provision(topologyOf('orders', { ordering: 'key' }), 'create')
    await sent(broker, envelopeTo('orders', 'one', 'k'))
    const group = { kind: 'group', topic: 'orders', group: 'a', delayMs: 0 } as const
    expect(await broker.inspect!.depth(group)).toBe(1)
    await expect(broker.inspect!.browse(group, 1)).rejects.toMatchObject({
      name: 'CapabilityError',
      message: /single active consumer/,
    })
  })
})

describe('native delayed retry', () => {
  const nativeRetry = { minMs: 1_000, maxMs: 5_000 }

  it('is a capability from 4.3 on, with the delays on the queue, and retry queues for longer ones', async () => {
    const stage = await BrokerStage.on(sharedNode())
    const { broker, capabilities } = await stage.open({ nativeRetry })
    expect(capabilities).toMatchObject({ retryDelay: 'native', attemptCount: 'broker' })
    await broker.provision(topologyOf('orders', { retryLevelsMs: [1_000] }), 'create')
    expect(await stage.queues()).toEqual(['orders.a', 'orders.a.dead', 'orders.a.retry.1000'])
    expect(await stage.arguments('orders.a')).toMatchObject({
      'x-delayed-retry-type': 'failed',
      'x-delayed-retry-min': 1_000,
      'x-delayed-retry-max': 5_000,
    })
    await stage.close()
  })

  it('is never early: what the queue would bring back too soon takes a retry queue', async () => {
    const stage = await BrokerStage.on(sharedNode())
    const Orders = topic<string>('orders')
    const delays = [800, 1_500, 2_500]
    const calls: { readonly atMs: number; readonly attempt: number }[] = []
    const consumer = new ReliableConsumer({
      broker: stage.broker({ nativeRetry: { minMs: 1_000, maxMs: 2_000 } }),
      topic: Orders,
      group: 'a',
      topics: { orders: { retryLevelsMs: [500, 2_500] } },
      retry: { attempts: 4, backoff: { delayFor: (attempt) => delays[attempt - 1]! } },
      logging: 'silent',
      handler: (_text, { attempt }) => {
        calls.push({ atMs: systemClock.now(), attempt })
        if (calls.length <= delays.length) throw new Error('not yet')
      },
    })
    await consumer.start()
    const { broker } = await stage.open()
    await sent(broker, { ...envelopeTo('orders', '"one"'), contentType: 'application/json' })
    await soon('it was handled', () => calls.length === 4)
    expect(calls.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4])
    const waits = calls.slice(1).map(({ atMs }, nth) => atMs - calls[nth]!.atMs)
    for (const [nth, waitMs] of waits.entries()) {
      expect(waitMs).toBeGreaterThanOrEqual(delays[nth]! - 2)
    }
    await consumer.drain({ timeoutMs: 5_000 })
    expect(await stage.management.queue(stage.vhost.name, 'orders.a')).toMatchObject({
      messages: 0,
    })
    await stage.close()
  })

  it('is not for ordered topics: what a lost connection gives back keeps its order', async () => {
    const stage = await BrokerStage.on(sharedNode())
    const { broker } = await stage.open({ nativeRetry })
    await broker.provision(topologyOf('orders', { ordering: 'key' }), 'create')
    expect(await stage.arguments('orders.a')).not.toHaveProperty('x-delayed-retry-type')
    for (let n = 0; n < 5; n++) await sent(broker, envelopeTo('orders', `${n}`, 'k'))
    const held: Delivery[] = []
    const later: Delivery[] = []
    const collecting = (into: Delivery[]) => ({
      ...quiet,
      deliver: (_: Source, batch: readonly Delivery[]) => void into.push(...batch),
    })
    const ordered = {
      ...subscription,
      ordering: 'key',
      maxHeld: { messages: 2, bytes: 1e6 },
    } as const
    const first = await broker.receive(ordered, collecting(held))
    await soon('two are held', () => held.length === 2)
    expect(held[0]!.retry).toBeUndefined()
    await stage.node.ctl('close_all_connections', '--vhost', stage.vhost.name, 'by a test')
    await first.close(systemClock.now() + 5_000).catch(() => undefined)
    const other = await stage.open({ nativeRetry })
    await other.broker.receive(
      { ...ordered, maxHeld: { messages: 9, bytes: 1e6 } },
      collecting(later),
    )
    await soon('all came', () => later.length === 5)
    const bodies = later.map(({ envelope }) => Buffer.from(envelope.body!).toString())
    expect(bodies).toEqual(['0', '1', '2', '3', '4'])
    await stage.close()
  })

  it('is not expected of mapped queues', async () => {
    const stage = await BrokerStage.on(sharedNode())
    const channel = await stage.channel()
    await channel.assertQueue('mine', { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    const map = { orders: { exchange: '', routingKey: 'mine', groups: { a: { queue: 'mine' } } } }
    const { broker } = await stage.open({ nativeRetry, map, allowDropOnLimit: true })
    await broker.provision(topologyOf('orders'), 'create')
    const deliveries: Delivery[] = []
    const sink = {
      ...quiet,
      deliver: (_: Source, batch: readonly Delivery[]) => void deliveries.push(...batch),
    }
    const receiver = await broker.receive(subscription, sink)
    await sent(broker, envelopeTo('orders', 'one'))
    await soon('it came', () => deliveries.length === 1)
    expect(deliveries[0]!.retry).toBeUndefined()
    await receiver.close(systemClock.now() + 5_000)
    await stage.close()
  })

  it('is refused before 4.3, where the broker would ignore it, and nothing stays open', async () => {
    const stage = await BrokerStage.on(old.node)
    const broker = stage.broker({ nativeRetry })
    await expect(openBroker(broker)).rejects.toMatchObject({
      name: 'CapabilityError',
      message: /nativeRetry needs RabbitMQ 4\.3, this is 4\.0/,
    })
    const path = `vhosts/${encodeURIComponent(stage.vhost.name)}/connections`
    await soon('no connection', async () => (await stage.management.get<[]>(path)).length === 0)
    await stage.close()
  })
})
