import { describe, expect, it } from 'vitest'

import { noCrashes } from '../../src/contract/crash-points.ts'
import { ClosedError, HoldfastError, OptionError, StorageError } from '../../src/contract/errors.ts'
import type { HoldfastEvent } from '../../src/contract/events.ts'
import type { TopicTopology } from '../../src/contract/topology.ts'
import { Emitter } from '../../src/observe/emitter.ts'
import { Session } from '../../src/send/session.ts'
import { ScriptedBroker } from '../support/scripted-broker.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const orders: TopicTopology = {
  name: 'orders',
  groups: ['billing'],
  partitions: null,
  ordering: 'key',
  retryLevelsMs: [],
}

class Rig {
  readonly clock: VirtualClock = new VirtualClock()
  readonly broker: ScriptedBroker = new ScriptedBroker(this.clock)

  join(events: HoldfastEvent[] = []): Session {
    return Session.join(this.broker, {
      clock: this.clock,
      random: seededRandom(),
      crash: noCrashes,
      emit: new Emitter((event) => events.push(event)).emit,
    })
  }
}

describe('Session', () => {
  it('opens a broker once for all who share it and closes it with the last', async () => {
    const rig = new Rig()
    const [one, other] = [rig.join(), rig.join()]
    await Promise.all([one.ready(), other.ready(), one.ready()])
    expect(rig.broker.opens).toBe(1)
    await one.leave(1_000)
    await one.leave(1_000)
    expect(rig.broker.closed).toEqual([])
    await other.leave(1_000)
    expect(rig.broker.closed).toEqual([1_000])
    expect([rig.broker.listeners, rig.clock.timers]).toEqual([0, 0])
  })

  it('tries to open until it works, and tells each failure once', async () => {
    const rig = new Rig()
    const events: HoldfastEvent[] = []
    let tries = 0
    rig.broker.opening = () =>
      ++tries < 4 ? Promise.reject(new Error('refused')) : Promise.resolve()
    const session = rig.join(events)
    await rig.clock.run(session.ready())
    expect(tries).toBe(4)
    expect(events.filter(({ type }) => type === 'warning')).toHaveLength(3)
    await session.leave(1_000)
    expect(rig.clock.timers).toBe(0)
  })

  it.each([
    new OptionError('url', 'x', 'a URL'),
    new HoldfastError('missing-package', 'npm i amqplib'),
    new StorageError('storage-read-only', 'the file is read-only'),
  ])('does not try again where it cannot help: $message', async (error) => {
    const rig = new Rig()
    rig.broker.opening = async () => {
      throw error
    }
    await expect(rig.join().ready()).rejects.toBe(error)
    expect(rig.broker.opens).toBe(1)
  })

  it('ends opening when the last one leaves', async () => {
    const rig = new Rig()
    rig.broker.opening = () => Promise.reject(new Error('refused'))
    const session = rig.join()
    const ready = session.ready().catch((error: unknown) => error)
    await rig.clock.advance(50)
    await session.leave(rig.clock.now() + 1_000)
    expect(await ready).toBeInstanceOf(ClosedError)
    expect(rig.clock.timers).toBe(0)
  })

  it('asks for a topic once per connection, whoever needs it', async () => {
    const rig = new Rig()
    const [one, other] = [rig.join(), rig.join()]
    await Promise.all([one.provision([orders], 'create'), other.provision([orders], 'create')])
    await one.provision([orders], 'create')
    expect(rig.broker.provisioned).toEqual([{ topics: [orders] }])
    await one.provision([{ ...orders, groups: ['other'] }], 'create')
    expect(rig.broker.provisioned).toHaveLength(2)
  })

  it('asks again in the background after a reconnect', async () => {
    const rig = new Rig()
    const session = rig.join()
    await session.provision([orders], 'create')
    const { generation } = session
    rig.broker.become('down')
    rig.broker.become('blocked')
    await rig.clock.settle()
    expect(session.generation).toBe(generation + 1)
    expect(rig.broker.provisioned).toHaveLength(2)
    rig.broker.become('up')
    await session.provision([orders], 'create')
    expect(rig.broker.provisioned).toHaveLength(2)
  })

  it('rejects with what is wrong, and asks again the next time', async () => {
    const rig = new Rig()
    const session = rig.join()
    const missing = {
      severity: 'error',
      code: 'queue',
      subject: 'orders.billing',
      message: 'missing',
    } as const
    rig.broker.finding = () => Promise.resolve([missing])
    await expect(session.provision([orders], 'verify')).rejects.toThrow(
      'topic "orders": orders.billing: missing (queue)',
    )
    rig.broker.finding = () => Promise.resolve([{ ...missing, severity: 'warning' }])
    await session.provision([orders], 'verify')
    expect(rig.broker.provisioned).toHaveLength(2)
  })

  it('asks again when an answer never comes, however many topics wait for one', async () => {
    const rig = new Rig()
    const events: HoldfastEvent[] = []
    const session = rig.join(events)
    let silent = 8
    rig.broker.finding = () => (silent-- > 0 ? new Promise(() => undefined) : Promise.resolve([]))
    const topics = Array.from({ length: 9 }, (_, n) => ({ ...orders, name: `orders-${n}` }))
    await rig.clock.run(session.provision(topics, 'create'), 60_000)
    expect(rig.broker.provisioned).toHaveLength(9 + 8)
    expect(events).toContainEqual({
      type: 'warning',
      code: 'broker',
      message:
        'provisioning topic "orders-0" on broker scripted failed: provisioning topic "orders-0" did not end within 10000 ms',
    })
    expect(rig.clock.timers).toBe(0)
  })

  it('lets others be asked about while a topic waits for its next try', async () => {
    const rig = new Rig()
    const session = rig.join()
    rig.broker.finding = ({ topics }) =>
      topics[0]?.name === 'orders-8' ? Promise.resolve([]) : Promise.reject(new Error('not now'))
    const topics = Array.from({ length: 8 }, (_, n) => ({ ...orders, name: `orders-${n}` }))
    const waiting = session.provision(topics, 'create').catch((error: Error) => error)
    await rig.clock.settle()
    await rig.clock.run(session.provision([{ ...orders, name: 'orders-8' }], 'create'), 60_000)
    await session.leave(rig.clock.now() + 1_000)
    expect(await waiting).toBeInstanceOf(ClosedError)
    expect(rig.clock.timers).toBe(0)
  })

  it('opens again when opening never ends, and waits for it no longer than it is wanted', async () => {
    const rig = new Rig()
    let silent = 2
    rig.broker.opening = () => (silent-- > 0 ? new Promise(() => undefined) : Promise.resolve())
    await rig.clock.run(rig.join().ready(), 120_000)
    expect(rig.broker.opens).toBe(3)
    const other = new Rig()
    other.broker.opening = () => new Promise(() => undefined)
    const session = other.join()
    const ready = session.ready().catch((error: unknown) => error)
    await other.clock.advance(50)
    await session.leave(other.clock.now() + 1_000)
    expect(await ready).toBeInstanceOf(ClosedError)
    expect(other.clock.timers).toBe(0)
  })

  it('tells state changes to all members, and to none that left', async () => {
    const rig = new Rig()
    const [heard, left]: [HoldfastEvent[], HoldfastEvent[]] = [[], []]
    const one = rig.join(heard)
    const other = rig.join(left)
    await other.leave(1_000)
    await one.ready()
    expect(heard.map(({ type }) => type)).toEqual(['broker.state'])
    expect(left).toEqual([])
  })

  it('does not wait longer for closing than its deadline', async () => {
    const rig = new Rig()
    const session = rig.join()
    await session.ready()
    rig.broker.close = () => new Promise(() => undefined)
    const left = session.leave(500).catch((error: Error) => error.message)
    expect(await rig.clock.run(left)).toBe('closing the broker did not end within 500 ms')
    expect(rig.clock.timers).toBe(0)
  })
})
