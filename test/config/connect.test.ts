import { describe, expect, expectTypeOf, it } from 'vitest'

import { connect, type HoldfastEvent, topic } from 'holdfast'
import { memory, memoryDatabase, type MemoryTransaction } from 'holdfast/memory'

const Orders = topic('orders', { key: (order: { id: string; cents: number }) => order.id })

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

  it('hands out no consumer once it is closing, and closes twice', async () => {
    const messaging = await connect({ broker: { use: 'memory' }, logging: 'silent' })
    await Promise.all([messaging.close(), messaging.close()])
    expect(() => messaging.consumer(Orders, { group: 'g' }, () => undefined)).toThrow(/is closed/)
  })

  it.each([
    ['no broker', {}, /config\.broker.*use: 'sqlite'/],
    ['an unknown option', { broker: { use: 'memory' }, outbx: 1 }, /config\.outbx.*unknown/],
    ['a wrong option of a broker', { broker: { use: 'rabbitmq', url: 'http://x' } }, /^url: got/],
    ['an unknown broker', { broker: { use: 'carrier-pigeon' } }, /broker\.use.*memory, sqlite/],
    ['an unknown store', { broker: { use: 'memory' }, inbox: { use: 'x' } }, /inbox\.use.*memory/],
    [
      'an unknown option of the adapter',
      { broker: { use: 'sqlite', fille: 'x.db' } },
      /sqlite\.fille.*unknown/,
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
