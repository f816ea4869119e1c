import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { RabbitmqNode } from '../../brokers/rabbitmq-node.ts'
import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import type { Listener, Received } from '../../conformance/broker/listener.ts'
import { ReceivingStage, texts } from './receiving-stage.ts'

const ack = (received: Received, listener: Listener): void => listener.ack(received)

/** From 4.3 on giving back counts nothing; before, every return counts towards the delivery limit. */
const versions = [
  { version: '4.3', countsReleases: false },
  { version: '4.0', countsReleases: true },
] as const

describe.each(versions)('receiving from RabbitMQ $version', ({ version, countsReleases }) => {
  let own: OwnNode | null = null
  let node: RabbitmqNode
  let stage: ReceivingStage

  beforeAll(async () => {
    if (version === '4.0') own = await startNode({ version: 'old' })
    node = own?.node ?? sharedNode()
    stage = await ReceivingStage.on(node)
  })

  afterAll(async () => {
    await stage.end()
    await own?.remove()
  })

  async function came(listener: Listener, count: number): Promise<void> {
    await stage.eventually(
      () => `${listener.received.length} of ${count} arrived`,
      () => listener.received.length >= count,
    )
  }

  describe.each(['quorum', 'classic'] as const)('a %s queue', (type) => {
    it('delivers, and does not deliver again what was acknowledged and flushed', async () => {
      const topic = await stage.topic({ type })
      const { receiver, listener } = await stage.receive(topic, { onReceived: ack })
      await stage.publish(topic, texts(500))
      await came(listener, 500)
      await receiver.flush(stage.deadline())
      await receiver.close(stage.deadline())
      expect(await stage.ready(stage.queue(topic))).toBe(0)
      expect(listener.bodies).toEqual(texts(500))
      expect(listener.ends).toEqual([undefined])
    })

    it('tells first deliveries from those that may have been handled', async () => {
      const topic = await stage.topic({ type })
      const { listener } = await stage.receive(topic)
      await stage.publish(topic, ['one'])
      await came(listener, 1)
      const [first] = listener.received
      expect([first?.attempt, first?.redelivered]).toEqual([1, 'no'])
      listener.settle(first!, (delivery) => delivery.release())
      await came(listener, 2)
      const second = listener.received[1]!
      expect([second.attempt, second.redelivered]).toEqual([1, 'maybe'])
      listener.ack(second)
      await stage.publish(topic, ['two'], { headers: { 'holdfast-attempt': '6' } })
      await came(listener, 3)
      const third = listener.received[2]!
      expect([third.attempt, third.redelivered]).toEqual([7, 'yes'])
    })
  })

  it('holds no more of several queues than it may, each its share', async () => {
    const topics = await Promise.all([stage.topic(), stage.topic(), stage.topic()])
    const { listener } = await stage.receive(topics, { maxHeld: { messages: 9 } })
    for (const topic of topics) await stage.publish(topic, texts(50))
    await came(listener, 9)
    for (const topic of topics) expect(await stage.ready(stage.queue(topic))).toBe(47)
    await stage.eventually(
      () => `${listener.received.length} of 150 arrived`,
      () => {
        expect(listener.held.size).toBeLessThanOrEqual(9)
        for (const one of listener.held) listener.ack(one)
        return listener.received.length === 150
      },
    )
  })

  it('holds no more than it may although there are more queues than that', async () => {
    const topics = await Promise.all([stage.topic(), stage.topic(), stage.topic()])
    const { listener } = await stage.receive(topics, { maxHeld: { messages: 2 } })
    for (const topic of topics) await stage.publish(topic, texts(5))
    await stage.eventually(
      () => `${listener.received.length} of 15 arrived`,
      () => {
        expect(listener.held.size).toBeLessThanOrEqual(2)
        for (const one of listener.held) listener.ack(one)
        return listener.received.length === 15
      },
    )
  })

  it('takes a second settling for nothing: the channel lives', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic)
    await stage.publish(topic, texts(20))
    await came(listener, 20)
    for (const one of listener.received) {
      listener.ack(one)
      one.delivery.ack()
      one.delivery.release()
    }
    await receiver.flush(stage.deadline())
    for (const one of listener.received) one.delivery.release()
    await receiver.flush(stage.deadline())
    await stage.publish(topic, ['after'])
    await came(listener, 21)
    expect(listener.lostSources).toEqual([])
    expect(listener.received).toHaveLength(21)
  })

  it('settles nothing by tags of a channel that is over', async () => {
    const topic = await stage.topic()
    const { listener, events } = await stage.receive(topic, { maxHeld: { messages: 10 } })
    await stage.publish(topic, texts(10))
    await came(listener, 10)
    const stale = listener.received.slice()
    await stage.closeConnections()
    await came(listener, 20)
    // Same tags, other channel: an ack that reached it would finish a message nobody handled.
    for (const { delivery } of stale) delivery.ack()
    expect(events.filter(({ type }) => type === 'settle.stale')).toHaveLength(10)
    expect(listener.lostSources).toContain(stale[0]?.delivery.source)
    for (const one of listener.received.slice(10)) {
      expect([one.attempt, one.redelivered]).toEqual([1, 'maybe'])
      expect(one.delivery.source).not.toBe(stale[0]?.delivery.source)
      listener.settle(one, (delivery) => delivery.release())
    }
    await came(listener, 30)
    expect(new Set(listener.bodies.slice(20))).toEqual(new Set(texts(10)))
  })

  it('lives on when its consumer is cancelled and consumes again, again and again', async () => {
    const topic = await stage.topic()
    const handled = new Map<string, number>()
    const { receiver, listener } = await stage.receive(topic, {
      maxHeld: { messages: 200 },
      onReceived: (received, by) => {
        const id = received.envelope.id!
        handled.set(id, (handled.get(id) ?? 0) + 1)
        by.ack(received)
      },
    })
    let isPublishing = true
    let published = 0
    const publishing = (async () => {
      while (isPublishing) {
        await stage.publish(topic, texts(500, published))
        published += 500
      }
    })()
    for (let turn = 0; turn < 100; turn++) {
      const before = listener.received.length
      receiver.pause()
      await receiver.flush(stage.deadline())
      receiver.resume()
      await came(listener, before + 1)
    }
    isPublishing = false
    await publishing
    await came(listener, published)
    expect(listener.lostSources, 'a late delivery ended the channel').toEqual([])
    expect([...handled.values()].filter((times) => times > 1)).toEqual([])
    expect(handled.size).toBe(published)
  })

  it('gives back at stop what was not handed over, and still settles the rest', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic, {
      maxHeld: { messages: 50, bytes: 100 },
    })
    await stage.publish(topic, texts(50))
    await came(listener, 20)
    await receiver.stop(stage.deadline())
    for (const one of listener.held) listener.ack(one)
    await receiver.flush(stage.deadline())
    await stage.eventually(
      () => 'what rested did not go back',
      async () => (await stage.ready(stage.queue(topic))) === 50 - listener.received.length,
    )
    expect(listener.lostSources).toEqual([])
  })

  it(`counts ${countsReleases ? 'a release, as every return,' : 'no release'} towards the delivery limit, and loses nothing`, async () => {
    const topic = await stage.topic({ arguments: { 'x-delivery-limit': 5 } })
    const { receiver, listener } = await stage.receive(topic)
    await stage.publish(topic, ['patient'])
    const limit = countsReleases ? 6 : 25
    for (let n = 1; n <= limit; n++) {
      await came(listener, n)
      const one = listener.received[n - 1]!
      expect(one.attempt).toBe(1)
      listener.settle(one, (delivery) => delivery.release())
    }
    await receiver.flush(stage.deadline())
    if (countsReleases) {
      await stage.eventually(
        () => 'it is not among the dead letters',
        async () => (await stage.ready(stage.dead(topic))) === 1,
      )
    } else {
      await came(listener, limit + 1)
      expect(await stage.ready(stage.dead(topic))).toBe(0)
    }
  })

  it('has nothing acknowledged that was not: a reset brings everything back', async () => {
    const topic = await stage.topic()
    const { listener } = await stage.receive(topic, { maxHeld: { messages: 40 } })
    await stage.publish(topic, texts(40))
    await came(listener, 40)
    await stage.closeConnections()
    await came(listener, 80)
    expect(new Set(listener.bodies.slice(40))).toEqual(new Set(texts(40)))
  })

  it('tells whose settles may be lost with a connection, once', async () => {
    const topic = await stage.topic()
    const { receiver, listener, events } = await stage.receive(topic)
    await stage.publish(topic, texts(10))
    await came(listener, 10)
    await receiver.flush(stage.deadline())
    for (const one of listener.received.slice(0, 4)) listener.ack(one)
    await stage.closeConnections()
    await came(listener, 16)
    await expect(receiver.flush(stage.deadline())).rejects.toMatchObject({
      code: 'settle',
      message: expect.stringMatching(/up to 4 settles may not have reached/),
    })
    await receiver.flush(stage.deadline())
    const told = events.filter(({ type }) => type === 'settle.failed')
    expect(told).toMatchObject([{ count: 4 }])
  })

  it('refuses to begin where the group is not declared', async () => {
    const topic = `t-nobody-${version}`
    const { opened, listener } = stage.begin(topic)
    await expect(opened).rejects.toMatchObject({
      code: 'topology',
      topic,
      message: expect.stringMatching(/group "a" of topic "t-nobody-.*declare it/),
    })
    expect(listener.ends).toEqual([])
  })

  it('ends when its queue is deleted, and names it', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic)
    await stage.publish(topic, ['held'])
    await came(listener, 1)
    await stage.channel.deleteQueue(stage.queue(topic))
    await stage.eventually(
      () => 'ended() was not called',
      () => listener.ends.length > 0,
    )
    expect(listener.ends[0]).toMatchObject({ code: 'destination-gone', topic })
    expect(listener.lostSources).toHaveLength(1)
    await receiver.close(stage.deadline())
    expect(listener.ends).toHaveLength(1)
  })

  it('goes on when its queue is deleted and made again at once', async () => {
    const topic = await stage.topic()
    const { listener } = await stage.receive(topic, { onReceived: ack })
    await stage.publish(topic, ['before'])
    await came(listener, 1)
    await stage.channel.deleteQueue(stage.queue(topic))
    await stage.declare(topic)
    await stage.publish(topic, ['after'])
    await came(listener, 2)
    expect(listener.bodies).toEqual(['before', 'after'])
    expect(listener.ends).toEqual([])
  })

  it('waits while it may not read, and goes on when it may', async () => {
    const topic = await stage.topic()
    const { listener, health } = await stage.receive(topic, { onReceived: ack })
    const permit = (read: string): Promise<void> =>
      node.management.put(`permissions/${encodeURIComponent(stage.vhost.name)}/guest`, {
        ...{ configure: '.*', write: '.*', read },
      })
    await permit('^nothing$')
    await stage.closeConnections()
    await stage.eventually(
      () => `health: ${health.join(', ')}`,
      () => health.some((one) => /ACCESS_REFUSED/.test(one)),
    )
    await permit('.*')
    await stage.publish(topic, ['after'])
    await came(listener, 1)
    expect(health.at(-1)).toBe('up')
    expect(listener.ends).toEqual([])
  })

  it('consumes on one channel per queue, whatever happened before', async () => {
    const topic = await stage.topic()
    const { listener } = await stage.receive(topic)
    for (let n = 1; n <= 5; n++) {
      await stage.channel.deleteQueue(stage.queue(topic))
      await stage.declare(topic)
      await stage.eventually(
        () => `lost ${listener.lostSources.length} of ${n}`,
        () => listener.lostSources.length >= n,
      )
      await stage.publish(topic, [`again-${n}`])
      await came(listener, n)
    }
    const ofQueue = await node.ctl('list_consumers', '-p', stage.vhost.name, 'queue_name')
    expect(ofQueue.split('\n').filter((line) => line === stage.queue(topic))).toHaveLength(1)
  })
})
