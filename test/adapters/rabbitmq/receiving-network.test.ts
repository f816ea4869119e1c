import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { FaultProxy } from '../../brokers/proxy/fault-proxy.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import type { Listener, Received } from '../../conformance/broker/listener.ts'
import { seededRandom } from '../../support/seeded-random.ts'
import { ReceivingStage, texts } from './receiving-stage.ts'

const ack = (received: Received, listener: Listener): void => listener.ack(received)

describe('receiving over a bad network', () => {
  let stage: ReceivingStage
  let proxy: FaultProxy

  beforeAll(async () => {
    stage = await ReceivingStage.on(sharedNode())
  })

  afterAll(() => stage.end())

  beforeEach(async () => {
    const port = stage.node.address.amqpPort
    proxy = await FaultProxy.start({ target: () => ({ host: '127.0.0.1', port }) })
  })

  afterEach(() => proxy.close())

  async function came(listener: Listener, count: number): Promise<void> {
    await stage.eventually(
      () => `${listener.received.length} of ${count} arrived`,
      () => listener.received.length >= count,
    )
  }

  it('always comes back, wherever in its opening the connection breaks', async () => {
    const topic = await stage.topic()
    const random = seededRandom(11)
    const { listener, wires } = await stage.receive(topic, { port: proxy.port, onReceived: ack })
    for (let turn = 0; turn < 40; turn++) {
      // The present connection, and the next one somewhere in its first two kilobytes either way.
      proxy.reset()
      const direction = turn % 2 === 0 ? 'down' : 'up'
      const cut = proxy.cutAfter(direction, Math.floor(random.next() * 2_000))
      await stage.publish(topic, [`turn-${turn}`])
      await stage.eventually(
        () => `turn ${turn}: it did not come back`,
        () => listener.bodies.includes(`turn-${turn}`),
      )
      cut.heal()
    }
    expect(wires()).toBeGreaterThan(40)
    expect(listener.ends).toEqual([])
  })

  it('begins when the broker comes, however late', async () => {
    const topic = await stage.topic()
    const away = proxy.refuse()
    const { opened, listener, health } = stage.begin(topic, {
      port: proxy.port,
      onReceived: ack,
      options: { rpcTimeoutMs: 300 },
    })
    await opened
    expect(health.at(-1)).toMatch(/^connecting/)
    await stage.publish(topic, texts(3))
    away.heal()
    await came(listener, 3)
    expect(away.fired).toBeGreaterThan(0)
    expect(health.at(-1)).toBe('up')
  })

  it('notices a silent broker by its heartbeat, and settles nothing on the old connection', async () => {
    const topic = await stage.topic()
    const { listener } = await stage.receive(topic, {
      port: proxy.port,
      options: { heartbeatS: 1 },
    })
    await stage.publish(topic, texts(5))
    await came(listener, 5)
    const hole = proxy.blackHole()
    for (const one of listener.held) listener.ack(one)
    await stage.eventually(
      () => 'the silence was not noticed',
      () => listener.lostSources.length === 1,
    )
    hole.heal()
    await came(listener, 10)
    expect(hole.fired).toBeGreaterThan(0)
    expect(new Set(listener.bodies.slice(5))).toEqual(new Set(texts(5)))
    for (const one of listener.received.slice(5)) expect(one.redelivered).toBe('maybe')
  })

  it('delivers again what was acknowledged into the void, under the same id', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic, { port: proxy.port })
    await stage.publish(topic, texts(10))
    await came(listener, 10)
    const lost = proxy.rule('basic.ack', { do: 'drop' })
    for (const one of listener.held) listener.ack(one)
    await stage.eventually(
      () => 'no ack was written',
      () => lost.fired > 0,
    )
    proxy.reset()
    lost.heal()
    await came(listener, 20)
    expect(new Set(listener.bodies.slice(10))).toEqual(new Set(texts(10)))
    await expect(receiver.flush(stage.deadline())).rejects.toMatchObject({ code: 'settle' })
  })

  it('rejects a flush that is not answered, by its deadline, and connects anew', async () => {
    const topic = await stage.topic()
    const { receiver, listener, wires } = await stage.receive(topic, {
      port: proxy.port,
      options: { rpcTimeoutMs: 1_000 },
    })
    await stage.publish(topic, texts(3))
    await came(listener, 3)
    const hole = proxy.blackHole('down')
    for (const one of listener.held) listener.ack(one)
    const begun = systemClock.now()
    await expect(receiver.flush(stage.deadline(200))).rejects.toMatchObject({
      code: 'settle',
      message: expect.stringMatching(/3 settles/),
    })
    expect(systemClock.now() - begun).toBeLessThan(900)
    await stage.eventually(
      () => 'the connection that does not answer was kept',
      () => listener.lostSources.length === 1,
    )
    hole.heal()
    await stage.publish(topic, ['after'])
    await stage.eventually(
      () => 'it did not come back',
      () => listener.bodies.includes('after'),
    )
    expect(wires()).toBe(2)
  })

  it('closes by its deadline although nobody answers', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic, { port: proxy.port })
    await stage.publish(topic, texts(5))
    await came(listener, 5)
    listener.ack(listener.received[0]!)
    const hole = proxy.blackHole()
    const begun = systemClock.now()
    await receiver.close(stage.deadline(500)).catch(() => undefined)
    expect(systemClock.now() - begun).toBeLessThan(1_500)
    expect(listener.ends).toEqual([undefined])
    hole.heal()
    await stage.eventually(
      () => 'what was held did not go back',
      async () => (await stage.ready(stage.queue(topic))) >= 4,
    )
  })

  it('replaces a channel that the broker closes, and only that', async () => {
    const topics = [await stage.topic(), await stage.topic()] as const
    const struck = stage.queue(topics[0])
    const { listener, wires } = await stage.receive(topics, { port: proxy.port })
    for (const topic of topics) await stage.publish(topic, texts(5))
    await came(listener, 10)
    expect(proxy.closeConsumers((queue) => queue === struck)).toBe(1)
    await came(listener, 15)
    const lost = listener.lostSources.map(({ name }) => name)
    expect(lost).toEqual([struck])
    for (const one of listener.received.slice(10)) expect(one.delivery.source.name).toBe(struck)
    expect(wires()).toBe(1)
  })

  it('tells the broker everything it settled before it goes, under load', async () => {
    const topic = await stage.topic()
    const handled = new Set<string>()
    for (let turn = 0; turn < 10; turn++) {
      const publishing = stage.publish(topic, texts(400, turn * 400))
      const { receiver, listener } = await stage.receive(topic, {
        port: proxy.port,
        maxHeld: { messages: 64 },
        onReceived: (received, by) => {
          expect(handled, 'a finished message came again').not.toContain(received.envelope.id)
          handled.add(received.envelope.id!)
          by.ack(received)
        },
      })
      await came(listener, 100)
      await receiver.close(stage.deadline())
      await publishing
    }
    expect(await stage.ready(stage.queue(topic))).toBe(4_000 - handled.size)
  })
})
