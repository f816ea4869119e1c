import { describe, expect, expectTypeOf, it } from 'vitest'

import { connect, type HoldfastEvent, topic } from 'holdfast'
import { memory, memoryDatabase, type MemoryTransaction } from 'holdfast/memory'

const Orders = topic('orders', { key: (order: { id: string; cents: number }) => order.id })

const Mails = topic('mails')

describe('connect', () => {
  it('moves a message from a transaction through broker and inbox to its effect', async () => {
    const database = memoryDatabase()
    const messaging = await connect({
      broker: { use: 'memory' },
      topics: { orders: { groups: ['billing'] } },
      outbox: { use: 'memory', database },
      inbox: { use: 'memory', database },
      logging: 'silent',
    })
    const charged: string[] = []
    const billing = messaging.consumer(Orders, { group: 'billing' }, (order, context) => {
      expectTypeOf(context.tx).toEqualTypeOf<MemoryTransaction>()
      charged.push(order.id)
    })
    await billing.start()
    await database.transaction(async (tx) => {
      await messaging.publisher.publishIn(tx, Orders, { id: 'o-1', cents: 42 })
    })
    await expect.poll(() => charged).toEqual(['o-1'])
    await messaging.drain()
  })

  it('has no transaction without an inbox', async () => {
    const messaging = await connect({ broker: memory(), logging: 'silent' })
    messaging.consumer(Orders, { group: 'billing' }, (_order, context) => {
      expectTypeOf(context).not.toHaveProperty('tx')
    })
    await messaging.close()
  })

  it('tells every part to the one listener', async () => {
    const heard = new Set<HoldfastEvent['type']>()
    const messaging = await connect({
      broker: { use: 'memory' },
      topics: { orders: { groups: ['billing'] } },
      on: (event) => void heard.add(event.type),
      logging: 'silent',
    })
    await messaging.consumer(Orders, { group: 'billing' }, () => undefined).start()
    await messaging.publisher.publish(Orders, { id: 'o-1', cents: 1 })
    await expect.poll(() => heard.has('message.done')).toBe(true)
    expect(heard.has('publish.confirmed')).toBe(true)
    await messaging.drain()
  })

  it.each([
    ['in one database, once with the effect', true],
    ['in two, with a warning', false],
  ])('stores what handlers publish %s', async (_name, isShared) => {
    const database = memoryDatabase()
    const warnings: string[] = []
    const messaging = await connect({
      broker: { use: 'memory' },
      topics: { orders: { groups: ['billing'] }, mails: { groups: ['post'] } },
      outbox: { use: 'memory', database },
      inbox: { use: 'memory', database: isShared ? database : memoryDatabase() },
      on: (event) => void (event.type === 'warning' && warnings.push(event.code)),
      logging: 'silent',
    })
    const handled: string[] = []
    const billing = messaging.consumer(Orders, { group: 'billing' }, async (order, context) => {
      await context.publish(Mails, {})
      handled.push(order.id)
    })
    await billing.start()
    for (const id of ['o-1', 'o-2']) await messaging.publisher.publish(Orders, { id, cents: 1 })
    await expect.poll(() => handled).toHaveLength(2)
    await messaging.drain()
    expect(warnings).toEqual(isShared ? [] : ['publish-outside-transaction'])
  })

  it('leaves nothing open behind when a part of it cannot be made', async () => {
    const broker = memory()
    const outbox = { use: 'memory', database: memoryDatabase() } as const
    const failing = connect({ broker, outbox, relay: { leaseMs: -1 }, logging: 'silent' })
    await expect(failing).rejects.toThrow(/leaseMs: got -1/)
    const messaging = await connect({ broker, logging: 'silent' })
    await messaging.publisher.open()
    await messaging.close()
    const states: string[] = []
    broker.onState(({ status }) => states.push(status))()
    expect(states).toEqual(['down'])
  })

  it('says what it waited for when the broker is not there in time', async () => {
    const broker = memory()
    broker.open = () => new Promise(() => undefined)
    const waiting = connect({ broker, waitForBrokerMs: 20, logging: 'silent' })
    await expect(waiting).rejects.toMatchObject({
      code: 'timeout',
      message: 'the broker did not answer within 20 ms (waitForBrokerMs)',
    })
  })

  it('hands out no consumer once it is closing, and closes twice', async () => {
    const messaging = await connect({ broker: { use: 'memory' }, logging: 'silent' })
    await Promise.all([messaging.close(), messaging.close()])
    expect(() => messaging.consumer(Orders, { group: 'g' }, () => undefined)).toThrow(/is closed/)
  })

  it.each([
    ['no broker', {}, /config\.broker.*use: 'sqlite'/],
    [
      'an unknown option',
      { broker: { use: 'memory' }, outbx: 1 },
      /config\.outbx.*no option of that name/,
    ],
    ['a wrong option of a broker', { broker: { use: 'rabbitmq', url: 'http://x' } }, /^url: got/],
    ['an unknown broker', { broker: { use: 'carrier-pigeon' } }, /broker\.use.*memory, sqlite/],
    ['an unknown store', { broker: { use: 'memory' }, inbox: { use: 'x' } }, /inbox\.use.*memory/],
    [
      'an unknown option of the adapter',
      { broker: { use: 'sqlite', fille: 'x.db' } },
      /sqlite\.fille.*no option of that name/,
    ],
    [
      'a setting of the relay that is none',
      {
        broker: { use: 'memory' },
        outbox: { use: 'memory', database: memoryDatabase() },
        relay: { leaseMs: -1 },
      },
      /leaseMs: got -1; allowed/,
    ],
    [
      'a wait that is none',
      { broker: { use: 'memory' }, waitForBrokerMs: -1 },
      /config\.waitForBrokerMs: got -1; allowed/,
    ],
  ])('refuses %s by name', async (_name, config, text) => {
    await expect(connect(config as never)).rejects.toThrow(text)
  })
})
