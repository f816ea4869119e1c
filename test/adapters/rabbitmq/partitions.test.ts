import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { Source } from '../../../src/contract/broker.ts'
import { sleep, systemClock } from '../../../src/contract/clock.ts'
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

/** Lets some time pass in which something must not happen. */
const pause = (ms: number): Promise<void> => sleep(systemClock, ms)

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

/** Writes down what came, and settles it a moment later. */
function noting(bodies: string[]) {
  return {
    ordering: 'key',
    maxHeld: { messages: 60 },
    onReceived: (received: Received, listener: Listener) => {
      bodies.push(Buffer.from(received.envelope.body!).toString())
      systemClock.after(bodies.length % 4, () => listener.ack(received))
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

  /** Resolves when no member has more queues than that. */
  async function shared(topic: string, members: readonly Receiving[], most: number): Promise<void> {
    let found: ReadonlyMap<Receiving, number> = new Map()
    await stage.eventually(
      () => `shares are ${members.map((one) => found.get(one) ?? 0).join(', ')}`,
      async () => {
        found = counts(await holders(topic, members))
        return members.every((one) => (found.get(one) ?? 0) <= most)
      },
    )
  }

  const moves = (...members: readonly Receiving[]): number =>
    members.reduce((sum, { listener }) => sum + listener.lostSources.length, 0)

  it('spread over those who consume, and move with them, without a coordinator', async () => {
    const topic = await stage.topic({ partitions: 24, singleActive: true })
    const setup = { ordering: 'key', onReceived: ack } as const
    const first = await stage.receive(topic, setup)
    expect(counts(await holders(topic, [first])).get(first)).toBe(24)
    const others = [await stage.receive(topic, setup), await stage.receive(topic, setup)] as const
    await shared(topic, [first, ...others], 8)
    await others[0].receiver.close(stage.deadline())
    await shared(topic, [first, others[1]], 12)
    expect(first.events.filter(({ type }) => type === 'warning')).toEqual([])
  })

  it('stay where they are when nobody has more than its share', async () => {
    const topic = await stage.topic({ partitions: 7, singleActive: true })
    const setup = { ordering: 'key', onReceived: ack } as const
    const members = [await stage.receive(topic, setup), await stage.receive(topic, setup)]
    await shared(topic, members, 4)
    const before = await holders(topic, members)
    const movesBefore = moves(...members)
    for (let look = 0; look < 40; look++) {
      expect(await holders(topic, members)).toEqual(before)
      await pause(50)
    }
    expect(moves(...members)).toBe(movesBefore)
    expect(movesBefore).toBeLessThanOrEqual(7)
  })

  it('stay with one who is alone, whoever else reads them without taking part', async () => {
    const topic = await stage.topic({ partitions: 6, singleActive: true })
    const alone = await stage.receive(topic, { ordering: 'key', onReceived: ack })
    const { got, stop } = await stage.foreign(topic)
    for (let look = 0; look < 20; look++) {
      expect(counts(await holders(topic, [alone])).get(alone)).toBe(6)
      await pause(50)
    }
    expect(moves(alone)).toBe(0)
    expect(got).toEqual([])
    await stop()
  })

  it('spread again after the queue of the members and all connections were lost', async () => {
    const topic = await stage.topic({ partitions: 6, singleActive: true })
    const setup = { ordering: 'key', onReceived: ack } as const
    const members = [await stage.receive(topic, setup), await stage.receive(topic, setup)]
    await shared(topic, members, 3)
    await stage.channel.deleteQueue(`${topic}.a:members`)
    members.push(await stage.receive(topic, setup))
    await shared(topic, members, 2)
    await stage.closeConnections()
    await shared(topic, members, 2)
    expect(members.flatMap(({ listener }) => listener.ends)).toEqual([])
  })

  it('are consumed where nobody may count the members, by whoever came first', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const end = await stage.forbid({ configure: '^$' })
    try {
      const setup = { ordering: 'key', onReceived: ack } as const
      const first = await stage.receive(topic, setup)
      const second = await stage.receive(topic, setup)
      await stage.publish(topic, dealt(20, 2), { key: keyOf })
      await stage.eventually(
        () => `${first.listener.received.length} of 40 arrived`,
        () => first.listener.received.length === 40,
      )
      await stage.eventually(
        () => 'nobody was told',
        () => first.events.some((event) => event.type === 'warning'),
      )
      expect(first.events.filter(({ type }) => type === 'warning')).toMatchObject([
        { code: 'rabbitmq.members', message: expect.stringMatching(/:members".*ACCESS_REFUSED/) },
      ])
      expect(second.listener.received).toEqual([])
      expect([...first.listener.lostSources, ...second.listener.lostSources]).toEqual([])
    } finally {
      await end()
    }
  })

  /** Holds everything; a source that is asked back stays until `letGo`. */
  class Holder {
    readonly asked: Source[] = []
    letGo: () => void = () => undefined
    readonly setup = {
      ordering: 'key',
      maxHeld: { messages: 240 },
      onRevoking: (sources: readonly Source[]): Promise<void> => {
        this.asked.push(...sources)
        return new Promise((resolve) => void (this.letGo = resolve))
      },
    } as const

    /** What it holds of what it was asked for. */
    of({ listener }: Receiving): readonly Received[] {
      return [...listener.held].filter(({ delivery }) => this.asked.includes(delivery.source))
    }

    /** Resolves when it was asked for something. */
    async isAsked(): Promise<void> {
      await stage.eventually(
        () => 'nothing was asked back',
        () => this.asked.length > 0,
      )
    }
  }

  it('hand a queue over only when its old holder has let go of it', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const holder = new Holder()
    const old = await stage.receive(topic, holder.setup)
    await stage.publish(topic, dealt(40, 1), { key: keyOf })
    await stage.eventually(
      () => `${old.listener.received.length} of 40 arrived`,
      () => old.listener.received.length === 40,
    )
    const young = await stage.receive(topic, { ordering: 'key', onReceived: ack })
    await holder.isAsked()
    const theirs = holder.of(old)
    await stage.publish(topic, dealt(40, 1, 1), { key: keyOf })
    await quiet(() => old.listener.received.length)
    expect(holder.of(old), 'more was handed over after it was asked back').toEqual(theirs)
    expect(young.listener.received, 'it went before its holder let go').toEqual([])
    const [settled] = theirs
    for (const one of theirs) if (one !== settled) old.listener.settle(one, (it) => it.release())
    old.listener.ack(settled!)
    holder.letGo()
    await stage.eventually(
      () => `${young.listener.received.length} came to the other`,
      () => young.listener.received.length >= theirs.length - 1,
    )
    const ours = young.listener.received.map(({ envelope }) => envelope.id)
    expect(ours, 'what was settled came again').not.toContain(settled!.envelope.id)
    expectKeyOrder([...theirs.map(({ envelope }) => envelope.id!), ...young.listener.bodies])
    for (const one of young.listener.received) expect(one.attempt).toBe(1)
  })

  it('go from a holder that keeps on holding when its time is up', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const holder = new Holder()
    const pace = { everyMs: [50, 150], handOverMs: 300, restMs: 1_000 } as const
    const old = await stage.receive(topic, { ...holder.setup, pace })
    await stage.publish(topic, dealt(40, 1), { key: keyOf })
    const young = await stage.receive(topic, { ordering: 'key', onReceived: ack })
    await stage.eventually(
      () => `${moves(old)} were given up`,
      () => moves(old) >= 2 && young.listener.received.length > 0,
    )
    await quiet(() => young.listener.received.length)
    expect(moves(old)).toBe(2)
    for (const one of old.listener.held) old.listener.ack(one)
    const all = [...old.listener.bodies, ...young.listener.bodies]
    expect(new Set(all).size).toBe(40)
  })

  it('go on at another in order although the old one could not begin all it got', async () => {
    const topic = await stage.topic({ partitions: 2, singleActive: true })
    const bodies: string[] = []
    // One at a time: what else came waits inside the adapter.
    const slow = { ...noting(bodies), maxHeld: { messages: 100, bytes: 1 } }
    const old = await stage.receive(topic, slow)
    const publishing = stage.publish(topic, dealt(20, 100), { key: keyOf })
    await stage.eventually(
      () => 'nothing arrived',
      () => bodies.length > 20,
    )
    const young = await stage.receive(topic, slow)
    await publishing
    await stage.eventually(
      () => `${new Set(bodies).size} of 2000 arrived`,
      () => new Set(bodies).size === 2_000,
    )
    expectKeyOrder(bodies)
    expect(young.listener.received.length, 'nothing moved').toBeGreaterThan(0)
    expect(moves(old), 'nothing moved').toBeGreaterThan(0)
  })

  it('keep the order of each key while consumers come, close and are cut off', async () => {
    const topic = await stage.topic({ partitions: 6, singleActive: true })
    const bodies: string[] = []
    const setup = noting(bodies)
    const load = new Load(stage, topic)
    const members = [await stage.receive(topic, setup)]
    for (let turn = 0; turn < 9; turn++) {
      const publishing = load.more()
      members.push(await stage.receive(topic, setup))
      if (turn % 3 > 0) {
        const leaving = members.shift()!
        if (turn % 3 === 1) await leaving.receiver.close(stage.deadline())
        else await stage.cutOff(leaving)
      }
      await publishing
    }
    await stage.eventually(
      () => `${new Set(bodies).size} of ${load.sent} arrived`,
      () => new Set(bodies).size === load.sent,
    )
    expectKeyOrder(bodies)
    await shared(topic, members, 2)
  })

  /** Two of them, and all queues with the first, which holds one delivery of each and is giving one up. */
  async function inHandOver(
    topic: string,
  ): Promise<{ old: Receiving; young: Receiving; holder: Holder }> {
    const holder = new Holder()
    const old = await stage.receive(topic, holder.setup)
    await stage.publish(topic, dealt(40, 2), { key: keyOf })
    await stage.eventually(
      () => `${old.listener.received.length} of 80 arrived`,
      () => old.listener.received.length === 80,
    )
    const young = await stage.receive(topic, { ordering: 'key', onReceived: ack })
    await holder.isAsked()
    await stage.publish(topic, dealt(40, 1, 2), { key: keyOf })
    expect(young.listener.received).toEqual([])
    return { old, young, holder }
  }

  it('go to the next in order when their holder dies in the middle of a hand-over', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const { old, young } = await inHandOver(topic)
    await stage.cutOff(old)
    await stage.eventually(
      () => `${young.listener.received.length} of 120 came to the other`,
      () => young.listener.received.length >= 120,
    )
    expect(new Set(young.listener.bodies).size).toBe(120)
    expectKeyOrder(young.listener.bodies)
  })

  it('stay with their holder when the next one dies in the middle of a hand-over', async () => {
    const topic = await stage.topic({ partitions: 4, singleActive: true })
    const { old, young, holder } = await inHandOver(topic)
    await stage.cutOff(young)
    for (const one of holder.of(old)) old.listener.settle(one, (it) => it.release())
    holder.letGo()
    await stage.eventually(
      () => `${new Set(old.listener.bodies).size} of 120 came`,
      () => {
        for (const one of old.listener.held) old.listener.ack(one)
        return new Set(old.listener.bodies).size === 120
      },
    )
    expectKeyOrder(old.listener.bodies)
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
    for (let look = 0; look < 20; look++) {
      await stage.publish(topic, dealt(20, 1, look), { key: keyOf })
      await pause(50)
    }
    expect(moves(taker), 'something was left to a consumer that is paused').toBe(0)
    await taker.receiver.close(stage.deadline())
    paused.receiver.resume()
    await stage.publish(topic, texts(10), { key: (body) => body })
    await stage.eventually(
      () => `${paused.listener.received.length} of 10 arrived after resume()`,
      () => paused.listener.received.length === 10,
    )
  })

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
