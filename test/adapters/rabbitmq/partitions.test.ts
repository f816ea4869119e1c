import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { startNode, type OwnNode } from '../../brokers/rabbitmq.ts'
import { sharedNode } from '../../brokers/shared-node.ts'
import type { Listener, Received } from '../../conformance/broker/listener.ts'
import { ReceivingStage, texts, type Receiving } from './receiving-stage.ts'

const ack = (received: Received, listener: Listener): void => listener.ack(received)

/** `<key>:<n>` for so many keys, dealt out like cards. */
function dealt(keys: number, each: number, first = 0): readonly string[] {
  return Array.from(
    { length: keys * each },
    (_, n) => `k${n % keys}:${first + Math.floor(n / keys)}`,
  )
}

const keyOf = (body: string): string => body.split(':')[0]!

/** Fails when the first deliveries of a key, over all listeners, are not 0, 1, 2, … */
function expectKeyOrder(bodies: readonly string[]): void {
  const seen = new Map<string, number[]>()
  for (const body of bodies) {
    const n = Number(body.split(':')[1])
    const numbers = seen.get(keyOf(body)) ?? []
    if (!numbers.includes(n)) numbers.push(n)
    seen.set(keyOf(body), numbers)
  }
  for (const [key, numbers] of seen) {
    expect(numbers, `order of ${key}`).toEqual(numbers.map((_, n) => n))
  }
}

/** Settles at once and writes down what came. */
function noting(bodies: string[]) {
  return {
    ordering: 'key',
    maxHeld: { messages: 60 },
    onReceived: (received: Received, listener: Listener) => {
      bodies.push(Buffer.from(received.envelope.body!).toString())
      listener.ack(received)
    },
  } as const
}

/** Publishes runs of 20 keys, one run after the other. */
class Load {
  readonly #stage: ReceivingStage
  readonly #topic: string
  sent = 0

  constructor(stage: ReceivingStage, topic: string) {
    this.#stage = stage
    this.#topic = topic
  }

  async more(): Promise<void> {
    for (let n = 0; n < 5; n++) {
      await this.#stage.publish(this.#topic, dealt(20, 5, this.sent / 20), { key: keyOf })
      this.sent += 100
    }
  }
}

describe.each(['4.3', '4.0'])('partitions of RabbitMQ %s', (version) => {
  let own: OwnNode | null = null
  let stage: ReceivingStage

  beforeAll(async () => {
    if (version === '4.0') own = await startNode({ version: 'old' })
    stage = await ReceivingStage.on(own?.node ?? sharedNode())
  })

  afterAll(async () => {
    await stage.end()
    await own?.remove()
  })

  /** Which queues deliver to whom now: one probe for each. */
  async function holders(
    topic: string,
    members: readonly Receiving[],
  ): Promise<ReadonlyMap<string, Receiving>> {
    const queues = stage.queues(topic)
    const counts = members.map(({ listener }) => listener.received.length)
    for (const queue of queues) stage.channel.sendToQueue(queue, Buffer.from('probe'))
    await stage.channel.waitForConfirms()
    const found = new Map<string, Receiving>()
    await stage.eventually(
      () => `${found.size} of ${queues.length} probes arrived`,
      () => {
        for (const [index, member] of members.entries()) {
          for (const one of member.listener.received.slice(counts[index])) {
            found.set(one.delivery.source.name, member)
          }
        }
        return found.size === queues.length
      },
    )
    return found
  }

  function counts(map: ReadonlyMap<string, Receiving>): ReadonlyMap<Receiving, number> {
    const sums = new Map<Receiving, number>()
    for (const member of map.values()) sums.set(member, (sums.get(member) ?? 0) + 1)
    return sums
  }

  it('spread over those who consume, and move with them, without a coordinator', async () => {
    const topic = await stage.topic({ partitions: 24, singleActive: true })
    const setup = { ordering: 'key', onReceived: ack } as const
    const first = await stage.receive(topic, setup)
    expect(counts(await holders(topic, [first])).get(first)).toBe(24)
    const others = [await stage.receive(topic, setup), await stage.receive(topic, setup)]
    const three = await holders(topic, [first, ...others])
    for (const member of [first, ...others]) {
      expect(counts(three).get(member), 'a share of 24').toBeGreaterThanOrEqual(2)
    }
    await others[0]!.receiver.close(stage.deadline())
    const two = await holders(topic, [first, others[1]!])
    for (const [queue, member] of three) {
      if (member !== others[0]) expect(two.get(queue), `${queue} stays`).toBe(member)
    }
  })

  it('hand a queue over only when its old holder has settled', async () => {
    const topic = await stage.topic({ partitions: 24, singleActive: true })
    const setup = { ordering: 'key', maxHeld: { messages: 240 } } as const
    const old = await stage.receive(topic, setup)
    const bodies = dealt(40, 1)
    await stage.publish(topic, bodies, { key: keyOf })
    await stage.eventually(
      () => `${old.listener.received.length} of 40 arrived`,
      () => old.listener.received.length === 40,
    )
    const young = await stage.receive(topic, { ...setup, onReceived: ack })
    await stage.publish(topic, dealt(40, 1, 1), { key: keyOf })
    const held = new Set(old.listener.received.map(({ delivery }) => delivery.source.name))
    await quiet(() => young.listener.received.length)
    for (const { delivery } of young.listener.received) {
      expect(held, 'a queue with unsettled deliveries moved').not.toContain(delivery.source.name)
    }
    while (old.listener.held.size > 0) {
      for (const one of old.listener.held) old.listener.ack(one)
      await quiet(() => old.listener.received.length)
    }
    await stage.eventually(
      () => `${old.listener.received.length} + ${young.listener.received.length} of 80`,
      () => {
        for (const one of old.listener.held) old.listener.ack(one)
        return old.listener.received.length + young.listener.received.length === 80
      },
    )
    expect(young.listener.received.length, 'nothing moved at all').toBeGreaterThan(0)
    expectKeyOrder([...old.listener.bodies, ...young.listener.bodies])
  })

  it('keep the order of each key while consumers come, close and are cut off', async () => {
    const topic = await stage.topic({ partitions: 6, singleActive: true })
    const bodies: string[] = []
    const setup = noting(bodies)
    const load = new Load(stage, topic)
    let current = await stage.receive(topic, setup)
    for (let turn = 0; turn < 6; turn++) {
      const publishing = load.more()
      const next = await stage.receive(topic, setup)
      if (turn % 2 === 0) await current.receiver.close(stage.deadline())
      else {
        await settled(topic)
        await stage.cutOff(current)
      }
      await publishing
      current = next
    }
    await stage.eventually(
      () => `${new Set(bodies).size} of ${load.sent} arrived`,
      () => new Set(bodies).size === load.sent,
    )
    expectKeyOrder(bodies)
  })

  // A consumer of 4.3 that dies while another waits to take over from it stays registered, and the queue
  // goes on delivering to it; the timeout of its deliveries is what ends that.
  it('lose nothing when their holder is cut off in the middle of a hand-over', async () => {
    const topic = await stage.topic({ partitions: 6, singleActive: true })
    const bodies: string[] = []
    const setup = { ...noting(bodies), options: { consumerTimeoutMs: 4_000 } }
    const load = new Load(stage, topic)
    let current = await stage.receive(topic, setup)
    for (let turn = 0; turn < 4; turn++) {
      const publishing = load.more()
      const next = await stage.receive(topic, setup)
      await stage.cutOff(current)
      await publishing
      current = next
    }
    // Traffic goes on: the broker looks for timed-out deliveries only when something moves.
    await stage.eventually(
      () => `${new Set(bodies).size} of ${load.sent} arrived`,
      async () => {
        if (new Set(bodies).size === load.sent) return true
        await load.more()
        return false
      },
      60_000,
    )
  })

  it('go to another in order when their holder closes with messages it had not begun', async () => {
    const topic = await stage.topic({ singleActive: true })
    // Nothing but the first fits: the rest waits inside the adapter.
    const old = await stage.receive(topic, { ordering: 'key', maxHeld: { messages: 50, bytes: 1 } })
    const bodies: string[] = []
    const young = await stage.receive(topic, {
      ordering: 'key',
      onReceived: (received, listener) => {
        bodies.push(Buffer.from(received.envelope.body!).toString())
        listener.ack(received)
      },
    })
    await stage.publish(topic, dealt(1, 200), { key: keyOf })
    await stage.eventually(
      () => 'nothing arrived',
      () => old.listener.held.size + young.listener.received.length > 0,
    )
    if (old.listener.held.size > 0) {
      await old.receiver.stop(stage.deadline())
      for (const one of old.listener.held) old.listener.settle(one, (it) => it.release())
      await old.receiver.close(stage.deadline())
    }
    await stage.eventually(
      () => `${new Set(bodies).size} of 200 arrived`,
      () => new Set(bodies).size === 200,
    )
    expectKeyOrder(bodies)
  })

  it('are given up by a paused consumer that holds nothing, and taken up again', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const paused = await stage.receive(topic, {
      ordering: 'key',
      options: { consumerTimeoutMs: 2_000 },
    })
    paused.receiver.pause()
    const taker = await stage.receive(topic, { ordering: 'key', onReceived: ack })
    await stage.publish(topic, dealt(20, 2), { key: keyOf })
    await stage.eventually(
      () => `${taker.listener.received.length} of 40 went to the other`,
      () => taker.listener.received.length === 40,
    )
    expectKeyOrder(taker.listener.bodies)
    expect(paused.listener.received).toEqual([])
    await taker.receiver.close(stage.deadline())
    paused.receiver.resume()
    await stage.publish(topic, texts(10), { key: (body) => body })
    await stage.eventually(
      () => `${paused.listener.received.length} of 10 arrived after resume()`,
      () => paused.listener.received.length === 10,
    )
  })

  /** Resolves when every queue is with the consumer of the highest priority: no hand-over is going on. */
  async function settled(topic: string): Promise<void> {
    const queues = stage.queues(topic)
    await stage.eventually(
      () => 'hand-overs do not end',
      async () => {
        const consumers = (await stage.consumers()).filter(({ queue }) => queues.includes(queue))
        return queues.every((queue) => {
          const of = consumers.filter((one) => one.queue === queue)
          const highest = Math.max(...of.map(({ priority }) => priority))
          return of.some(({ priority, isActive }) => isActive && priority === highest)
        })
      },
    )
  }

  /** Resolves when the count has stood still for a while. */
  async function quiet(count: () => number): Promise<void> {
    let last = count()
    let looks = 0
    await stage.eventually(
      () => `it does not stop: ${last}`,
      () => {
        looks = count() === last ? looks + 1 : 0
        last = count()
        return looks >= 15
      },
    )
  }
})
