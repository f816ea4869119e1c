import { createServer, type Socket } from 'node:net'

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { kafka, type KafkaOptions } from '../../../adapters/kafka/index.ts'
import type {
  Broker,
  BrokerContext,
  BrokerState,
  Delivery,
  DeliverySink,
  SendOutcome,
} from '../../../src/contract/broker.ts'
import { systemClock, systemRandom } from '../../../src/contract/clock.ts'
import { noCrashes } from '../../../src/contract/crash-points.ts'
import { silent } from '../../../src/contract/events.ts'
import type { TopicTopology } from '../../../src/contract/topology.ts'
import { startKafka, type OwnKafka } from '../../brokers/kafka.ts'
import { draft } from '../../conformance/broker/envelopes.ts'
import { within } from '../../conformance/wait.ts'

let own: OwnKafka
// A broker that makes topics for whoever asks for one.
const conf = ['auto.create.topics.enable=true']
beforeAll(async () => void (own = await startKafka({ conf })))
afterAll(() => own.remove())

const open: Broker[] = []
afterEach(async () => {
  for (const broker of open.splice(0)) await broker.close(soonClosed())
})

const soonClosed = (): number => systemClock.now() + 5_000

function contextOf(signal: AbortSignal = new AbortController().signal): BrokerContext {
  return { clock: systemClock, random: systemRandom, crash: noCrashes, emit: silent, signal }
}

function brokerAt(given: Partial<KafkaOptions> = {}): { broker: Broker; states: BrokerState[] } {
  const broker = kafka({
    ...(given.client === undefined ? { brokers: own.node.broker } : {}),
    ...given,
  })
  open.push(broker)
  const states: BrokerState[] = []
  broker.onState((state) => void states.push(state))
  return { broker, states }
}

let named = 0

function topologyOf(name = `broker-${++named}`): TopicTopology {
  return { name, groups: ['g'], partitions: 2, ordering: 'key', retryLevelsMs: [1_000] }
}

async function sent(broker: Broker, topic: string, body = 'x'): Promise<SendOutcome> {
  const sender = broker.sender('publish')
  const outcome = await new Promise<SendOutcome>((resolve) => {
    const deadline = systemClock.now() + 10_000
    sender.send([draft(topic, { body })], deadline, (_, __, one) => resolve(one))
  })
  await sender.close(soonClosed())
  return outcome
}

/** Acknowledges everything and keeps the bodies. */
class Sink implements DeliverySink {
  readonly bodies: string[] = []

  deliver(_: unknown, batch: readonly Delivery[]): void {
    for (const { envelope, ack } of batch.map((one) => ({
      envelope: one.envelope,
      ack: () => one.ack(),
    }))) {
      this.bodies.push(Buffer.from(envelope.body ?? []).toString())
      ack()
    }
  }

  async revoking(): Promise<void> {}
  lost(): void {}
  ended(): void {}
}

const subscriptionOf = (topic: string, from: 'now' | 'earliest') =>
  ({
    topics: [topic],
    group: 'g',
    ordering: 'key',
    from,
    maxHeld: { messages: 100, bytes: 1_000_000 },
  }) as const

describe('the broker', () => {
  it('opens once for all who ask, closes, and opens again', async () => {
    const { broker, states } = brokerAt()
    expect(states).toEqual([{ status: 'down', reason: 'not open' }])
    const capabilities = await broker.open(contextOf())
    expect(await broker.open(contextOf())).toBe(capabilities)
    expect(states.at(-1)).toEqual({ status: 'up', reason: null })
    const topology = topologyOf()
    await broker.provision({ topics: [topology] }, 'create')
    await broker.close(soonClosed())
    expect(states.at(-1)).toEqual({ status: 'down', reason: 'not open' })
    expect(() => broker.sender('publish')).toThrow(/broker is closed/)
    await expect(broker.provision({ topics: [topology] }, 'create')).rejects.toMatchObject({
      code: 'closed',
    })
    await broker.open(contextOf())
    expect(await sent(broker, topology.name)).toMatchObject({ status: 'confirmed' })
  })

  it('goes on opening until it is closed while nobody listens', async () => {
    const { broker, states } = brokerAt({ brokers: '127.0.0.1:9' })
    const failed = expect(broker.open(contextOf())).rejects.toMatchObject({ code: 'closed' })
    await expect.poll(() => states.map(({ reason }) => reason).join()).toMatch(/ECONNREFUSED/)
    await within(systemClock, 5_000, 'close()', broker.close(soonClosed()))
    await failed
  })

  it('gives up opening as soon as it is told to', async () => {
    const { broker } = brokerAt({ brokers: '127.0.0.1:9' })
    const abort = new AbortController()
    const failed = expect(broker.open(contextOf(abort.signal))).rejects.toThrow('no longer wanted')
    abort.abort(new Error('no longer wanted'))
    await within(systemClock, 2_000, 'open()', failed)
  })

  it('is not held up by something that takes connections and says nothing', async () => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const { broker } = brokerAt({ brokers: `127.0.0.1:${port}`, connectTimeoutMs: 1_000 })
    const opening = broker.open(contextOf())
    opening.catch(() => undefined)
    await expect.poll(() => sockets.size, { timeout: 10_000 }).toBeGreaterThan(0)
    await within(systemClock, 6_000, 'close()', broker.close(soonClosed()))
    await expect(opening).rejects.toMatchObject({ code: 'closed' })
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  it('takes a client of the user', async () => {
    const { Kafka, logLevel } = await import('kafkajs')
    const client = new Kafka({ brokers: [own.node.broker], logLevel: logLevel.NOTHING })
    const { broker } = brokerAt({ client })
    await broker.open(contextOf())
    const topology = topologyOf()
    await broker.provision({ topics: [topology] }, 'create')
    expect(await sent(broker, topology.name)).toMatchObject({ status: 'confirmed' })
  })

  it('refuses a client whose insides it does not know', async () => {
    const { broker } = brokerAt({
      client: { producer: () => 0, consumer: () => 0, admin: () => 0 },
    })
    await expect(broker.open(contextOf())).rejects.toMatchObject({
      code: 'capability',
      message: expect.stringMatching(/install that version/),
    })
  })

  it("gives a new group everything from 'earliest', and what comes 'now'", async () => {
    const { broker } = brokerAt()
    await broker.open(contextOf())
    const [early, late] = [topologyOf(), topologyOf()]
    for (const { name } of [early, late]) {
      await broker.provision({ topics: [{ ...topologyOf(name), groups: [] }] }, 'create')
      await sent(broker, name, 'before')
      await broker.provision({ topics: [topologyOf(name)] }, 'create')
    }
    const [fromEarliest, fromNow] = [new Sink(), new Sink()]
    await broker.receive(subscriptionOf(early.name, 'earliest'), fromEarliest)
    await broker.receive(subscriptionOf(late.name, 'now'), fromNow)
    for (const { name } of [early, late]) await sent(broker, name, 'after')
    await expect.poll(() => fromEarliest.bodies, { timeout: 20_000 }).toEqual(['before', 'after'])
    await expect.poll(() => fromNow.bodies, { timeout: 20_000 }).toEqual(['after'])
  })

  it('makes no topic by looking for it, writing to it or reading it', async () => {
    const { broker } = brokerAt()
    await broker.open(contextOf())
    const { name } = topologyOf()
    expect(await sent(broker, name)).toMatchObject({
      status: 'refused',
      error: { code: 'unroutable' },
    })
    await expect(broker.receive(subscriptionOf(name, 'now'), new Sink())).rejects.toMatchObject({
      code: 'topology',
    })
    // The broker makes what it was asked for in the background, one after the other.
    for (const later of [topologyOf(), topologyOf()]) {
      await broker.provision({ topics: [later] }, 'create')
    }
    const found = await broker.provision({ topics: [topologyOf(name)] }, 'verify')
    expect(found).toMatchObject([{ code: 'kafka.topic-missing', subject: name }])
    const audited = await broker.audit({ topics: [] })
    expect(audited.map(({ code }) => code)).toContain('kafka.auto-create')
  })

  it('audits what it made: one broker is not enough', async () => {
    const { broker } = brokerAt()
    await broker.open(contextOf())
    const topology = topologyOf()
    await broker.provision({ topics: [topology] }, 'create')
    const codes = (await broker.audit({ topics: [topology] })).map(({ code }) => code)
    expect(codes).toContain('kafka.cluster-size')
    expect(codes).toContain('kafka.replication')
    expect(codes).not.toContain('kafka.topic-missing')
  })

  it('refuses to begin on one broker when strict', async () => {
    const { broker } = brokerAt({ strict: true })
    await broker.open(contextOf())
    const found = await broker.provision({ topics: [topologyOf()] }, 'create')
    expect(found).toContainEqual(
      expect.objectContaining({ severity: 'error', code: 'kafka.replication' }),
    )
  })

  it('says when the cluster is away and when it is back', { timeout: 120_000 }, async () => {
    const { broker, states } = brokerAt()
    await broker.open(contextOf())
    const topology = topologyOf()
    await broker.provision({ topics: [topology] }, 'create')
    await own.node.stop()
    await expect.poll(() => states.at(-1)?.status, { timeout: 30_000 }).toBe('down')
    await own.node.start()
    await expect.poll(() => states.at(-1)?.status, { timeout: 30_000 }).toBe('up')
    expect(await sent(broker, topology.name)).toMatchObject({ status: 'confirmed' })
  })
})
