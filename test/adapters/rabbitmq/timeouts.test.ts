import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import { ReceivingStage, texts } from './receiving-stage.ts'

const TIMEOUT_MS = 3_000

// Before 4.3 the broker closes the channel, from 4.3 on it cancels the consumer and waits for an answer.
describe.each(['4.3', '4.0'])('a delivery held too long by RabbitMQ %s', (version) => {
  let own: OwnNode | null = null
  let stage: ReceivingStage

  beforeAll(async () => {
    if (version === '4.0') {
      own = await startNode({ version: 'old' })
      const set = (key: string): Promise<string> =>
        own!.node.ctl('eval', `application:set_env(rabbit, ${key}).`)
      await set(`consumer_timeout, ${TIMEOUT_MS}`)
      await set('channel_tick_interval, 1000')
    }
    stage = await ReceivingStage.on(own?.node ?? sharedNode())
  })

  afterAll(async () => {
    await stage.end()
    await own?.remove()
  })

  it.each([
    { queue: 'a shared queue', singleActive: false },
    { queue: 'a queue with a single active consumer', singleActive: true },
  ])('is lost and comes again, and $queue goes on', async ({ singleActive }) => {
    const topic = await stage.topic({ singleActive })
    const { receiver, listener, events, wires } = await stage.receive(topic, {
      ordering: singleActive ? 'key' : 'none',
      options: { consumerTimeoutMs: TIMEOUT_MS },
    })
    for (let turn = 0; turn < 2; turn++) {
      const before = listener.received.length
      await stage.publish(topic, [`slow-${turn}`])
      await stage.eventually(
        () => `turn ${turn}: lost ${listener.lostSources.length}`,
        () => listener.lostSources.length === turn + 1,
      )
      await stage.eventually(
        () => `turn ${turn}: it did not come again`,
        () => listener.received.length === before + 2,
      )
      const [slow, again] = listener.received.slice(before)
      expect(again?.envelope.id).toBe(slow?.envelope.id)
      expect(again?.delivery.source).not.toBe(slow?.delivery.source)
      expect([again?.attempt, again?.redelivered]).toEqual([1, 'maybe'])
      // The handler that was too slow settles now; on 4.3 that used to wake a consumer nobody knew.
      slow?.delivery.ack()
      listener.ack(again!)
      await receiver.flush(stage.deadline())
    }
    await stage.publish(topic, texts(50))
    await stage.eventually(
      () => `${listener.received.length - 4} of 50 arrived`,
      () => listener.received.length === 54,
    )
    for (const one of listener.held) listener.ack(one)
    await receiver.flush(stage.deadline())
    expect(events.filter(({ type }) => type === 'settle.stale')).toHaveLength(2)
    expect(wires(), 'the connection was lost').toBe(1)
    expect(listener.ends).toEqual([])
    const consumers = (await stage.consumers()).filter(({ queue }) => queue === stage.queue(topic))
    expect(consumers).toHaveLength(1)
  })

  it('keeps what was settled in time although the consumer is cancelled', async () => {
    const topic = await stage.topic()
    const { receiver, listener } = await stage.receive(topic, {
      options: { consumerTimeoutMs: TIMEOUT_MS },
    })
    await stage.publish(topic, texts(20))
    await stage.eventually(
      () => `${listener.received.length} of 20 arrived`,
      () => listener.received.length === 20,
    )
    for (const one of listener.received.slice(1)) listener.ack(one)
    await receiver.flush(stage.deadline())
    await stage.eventually(
      () => 'the slow one did not come again',
      () => listener.received.length > 20,
    )
    expect(listener.bodies.slice(20)).toEqual(['m-0'])
    listener.ack(listener.received[20]!)
    await receiver.flush(stage.deadline())
    expect(await stage.ready(stage.queue(topic))).toBe(0)
  })

  it('does not keep a queue from a second consumer for ever', async () => {
    const topic = await stage.topic({ singleActive: true })
    const setup = { ordering: 'key', options: { consumerTimeoutMs: TIMEOUT_MS } } as const
    const members = [await stage.receive(topic, setup), await stage.receive(topic, setup)]
    await stage.publish(topic, texts(5))
    const bodies = (): Set<string> => new Set(members.flatMap(({ listener }) => listener.bodies))
    await stage.eventually(
      () => `${bodies().size} of 5 arrived`,
      () => bodies().size === 5,
    )
    // Whoever has them lets them time out, again and again; then somebody works.
    await stage.eventually(
      () => 'nothing timed out',
      () => members.some(({ listener }) => listener.lostSources.length > 0),
    )
    const done = new Set<string>()
    await stage.eventually(
      () => `${done.size} of 5 finished`,
      () => {
        for (const { listener } of members) {
          for (const one of listener.held) {
            listener.ack(one)
            done.add(one.envelope.id!)
          }
        }
        return done.size === 5
      },
    )
    for (const { receiver } of members)
      await receiver.flush(stage.deadline()).catch(() => undefined)
    await stage.publish(topic, ['after'])
    await stage.eventually(
      () => 'the queue is stuck',
      () => bodies().has('after'),
    )
  })
})
