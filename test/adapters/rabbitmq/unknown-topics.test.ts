import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { memoryDatabase, memoryOutbox } from '../../../adapters/memory/index.ts'
import { findPartitions } from '../../../adapters/rabbitmq/partitions-of.ts'
import { TopicTable } from '../../../adapters/rabbitmq/topics.ts'
import type { Broker, Subscription } from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { topic } from '../../../src/contract/topic.ts'
import { ReliablePublisher } from '../../../src/publish/publisher.ts'
import { OutboxRelay } from '../../../src/publish/relay.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { Listener } from '../../conformance/broker/listener.ts'
import { BrokerStage, envelopeTo, sent, soon, topicOf, topologyOf } from './broker-stage.ts'

let stage: BrokerStage
beforeAll(async () => void (stage = await BrokerStage.on(sharedNode())))
afterAll(() => stage.close())

function subscriptionTo(name: string): Subscription {
  const maxHeld = { messages: 100, bytes: 1_000_000 }
  return { topics: [name], group: 'a', ordering: 'key', from: 'now', maxHeld }
}

/** Settles at once, and keeps what came. */
async function listen(broker: Broker, name: string): Promise<Listener> {
  const listener: Listener = new Listener(systemClock, (received) => listener.ack(received))
  listener.attach(await broker.receive(subscriptionTo(name), listener))
  return listener
}

const keys = Array.from({ length: 40 }, (_, n) => `customer-${n}`)

describe('partitions that this process did not declare', () => {
  it.each([1, 2, 3, 6])('are all consumed when there are %i of them', async (partitions) => {
    const name = `found-${partitions}`
    const owner = await stage.open()
    await owner.broker.provision(topologyOf(name, { partitions, ordering: 'key' }), 'create')
    const { broker } = await stage.open()
    const listener = await listen(broker, name)
    for (const key of keys) {
      expect(await sent(owner.broker, envelopeTo(name, key, key))).toMatchObject({
        status: 'confirmed',
      })
    }
    await soon('all arrived', () => new Set(listener.bodies).size === keys.length)
    const queues = new Set(listener.received.map(({ delivery }) => delivery.source.name))
    expect(queues.size).toBe(partitions)
    // Found for consuming, known for sending too.
    expect(await sent(broker, envelopeTo(name, 'back', 'customer-1'))).toMatchObject({
      status: 'confirmed',
    })
    await soon('it came back', () => listener.bodies.includes('back'))
    const sources = listener.received.filter(({ envelope }) => {
      return Buffer.from(envelope.key!).toString() === 'customer-1'
    })
    expect(new Set(sources.map(({ delivery }) => delivery.source.name)).size).toBe(1)
  })

  it('are not looked for in a topic that has none', async () => {
    const owner = await stage.open()
    await owner.broker.provision(topologyOf('plain', { ordering: 'key' }), 'create')
    const { broker } = await stage.open()
    const listener = await listen(broker, 'plain')
    await sent(broker, envelopeTo('plain', 'one', '7'))
    await soon('it came', () => listener.bodies.length === 1)
    expect(listener.received[0]!.delivery.source.name).toBe('plain.a')
  })

  it('are not guessed where queues contradict each other', async () => {
    const owner = await stage.open()
    await owner.broker.provision(topologyOf('both', { partitions: 2 }), 'create')
    const other = await stage.open()
    await other.broker.provision(topologyOf('both'), 'create')
    const { broker } = await stage.open()
    await expect(listen(broker, 'both')).rejects.toMatchObject({
      code: 'topology',
      message:
        /nobody can tell whether it has partitions: say how many in topics\.both\.partitions/,
    })
    const told = await stage.open()
    told.broker.assume!(topologyOf('both', { partitions: 2 }))
    const listener = await listen(told.broker, 'both')
    await sent(owner.broker, envelopeTo('both', 'one', 'k'))
    await soon('it came', () => listener.bodies.length === 1)
  })

  it('are found with few requests, however many there are', async () => {
    for (const count of [1, 2, 5, 64, 1_000, 10_000]) {
      const table = new TopicTable({ prefix: '', map: new Map() }, systemClock, systemRandom)
      const names = table.of('many').names
      const there = new Set(Array.from({ length: count }, (_, n) => names.partition('a', n)))
      let requests = 0
      const raw = async (doing: string): Promise<never> => {
        requests++
        const name = /"(.*)"/.exec(doing)![1]!
        if (there.has(name)) return undefined as never
        throw Object.assign(new Error('NOT_FOUND'), { code: 404 })
      }
      await findPartitions(subscriptionTo('many'), { operations: { raw }, topics: table })
      expect(table.of('many').partitions).toBe(count)
      expect(requests).toBeLessThanOrEqual(4 + 2 * Math.ceil(Math.log2(count)))
    }
  })
})

describe('a message to partitions that this process was not told of', () => {
  it('is refused with what to do, also one whose key looks like the number of one', async () => {
    const owner = await stage.open()
    await owner.broker.provision(topologyOf('untold', { partitions: 3 }), 'create')
    const { broker } = await stage.open()
    for (const key of ['customer-1', '0', '2', undefined]) {
      const outcome = await sent(broker, envelopeTo('untold', 'one', key))
      expect(outcome).toMatchObject({ status: 'refused', error: { code: 'unroutable' } })
      expect(outcome.status === 'refused' && outcome.error.message).toContain(
        'if the topic has partitions, say how many in topics.untold.partitions',
      )
    }
    expect(await owner.broker.inspect!.depth({ kind: 'topic', topic: 'untold' })).toBe(0)
  })

  it('arrives once it was told, also by a publisher that declares nothing', async () => {
    const owner = await stage.open()
    await owner.broker.provision(topologyOf('told', { partitions: 3, ordering: 'key' }), 'create')
    const listener = await listen(owner.broker, 'told')
    const Told = topic<{ key: string }>('told', { key: ({ key }) => key })
    for (const settings of [{ topology: 'none' }, {}] as const) {
      const publisher = new ReliablePublisher({
        broker: stage.broker(),
        topics: { told: { partitions: 3 } },
        logging: 'silent',
        ...settings,
      })
      await publisher.publishBatch(
        Told,
        keys.map((key) => ({ key })),
      )
      await publisher.close()
    }
    await soon('both arrived', () => listener.bodies.length === 2 * keys.length)
    const sources = new Set(
      listener.received.map(
        ({ delivery, envelope }) =>
          `${Buffer.from(envelope.key!).toString()} ${delivery.source.name}`,
      ),
    )
    expect(sources.size).toBe(keys.length)
  })

  it('is not sent at all when this process was told two numbers', async () => {
    const { broker } = await stage.open()
    broker.assume!(topologyOf('twice', { partitions: 3 }))
    broker.assume!(topologyOf('twice'))
    expect(() => broker.assume!(topologyOf('twice', { partitions: 4 }))).toThrow(
      /two different numbers of partitions for the topic: 4 and 3/,
    )
    const findings = await broker.provision(topologyOf('twice'), 'create')
    expect(findings).toMatchObject([{ severity: 'error', code: 'rabbitmq.partitions' }])
  })
})

describe('a topic that a relay declares before anybody else', () => {
  it('gets queues for one consumer at a time only when its rows are ordered', async () => {
    const database = memoryDatabase()
    const outbox = memoryOutbox({ database })
    const broker = stage.broker()
    const topics = { loose: { groups: ['a'] }, kept: { groups: ['a'] } }
    const publisher = new ReliablePublisher({ broker, outbox, logging: 'silent' })
    await publisher.open()
    const Loose = topic<string>('loose')
    const Kept = topic<string>('kept', { key: (text) => text })
    await database.transaction(async (tx) => {
      await publisher.publishIn(tx, Loose, 'one')
      await publisher.publishIn(tx, Kept, 'one')
    })
    const relay = new OutboxRelay({ broker, outbox, topics, logging: 'silent' })
    await relay.start()
    await soon('the rows are gone', () => database.outbox.pending.size === 0)
    const isSingle = async (queue: string): Promise<unknown> =>
      (await stage.arguments(queue))['x-single-active-consumer']
    expect([await isSingle('loose.a'), await isSingle('kept.a')]).toEqual([undefined, true])
    const other = await stage.open()
    const found = await other.broker.provision(
      { topics: [topicOf('loose'), topicOf('kept', { ordering: 'key' })] },
      'create',
    )
    expect(found).toEqual([])
    await relay.close()
    await publisher.close()
  })
})
