import { setTimeout as pause } from 'node:timers/promises'

import { connect, type ChannelModel } from 'amqplib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { rabbitmq } from '../../adapters/rabbitmq/index.ts'
import type { Broker, SendOutcome } from '../../src/contract/broker.ts'
import { systemClock } from '../../src/contract/clock.ts'
import type { Destination } from '../../src/contract/message.ts'
import { contextOf, topologyOf } from '../adapters/rabbitmq/broker-stage.ts'
import { envelope } from '../adapters/rabbitmq/sending-stage.ts'
import { until } from '../brokers/handshake.ts'
import { startCluster } from '../brokers/rabbitmq.ts'
import type { RabbitmqCluster } from '../brokers/rabbitmq-cluster.ts'

const QUEUE = 'orders.a'
const KILLS = 5
const TAKE_LIMIT_MS = 10_000
const GROUP: Destination = { kind: 'group', topic: 'orders', group: 'a', delayMs: 0 }

/** Ids that were taken out of the queue, by a program of its own that follows it from node to node. */
class Drain {
  readonly taken = new Set<string>()
  readonly #urls: readonly string[]
  #isOver = false
  #running: Promise<void> = Promise.resolve()

  constructor(urls: readonly string[]) {
    this.#urls = urls
  }

  /** Takes a message now and then, so that the queue is full most of the time and never for good. */
  start(everyMs: number): void {
    this.#running = this.#run(everyMs)
  }

  /** Until the queue is empty. */
  async rest(): Promise<void> {
    this.#isOver = true
    await this.#running
    const left = (): Promise<number> => this.#take(1_000).catch(() => Number.NaN)
    await until('the queue is empty', async () => (await left()) === 0, 120_000)
  }

  async #run(everyMs: number): Promise<void> {
    while (!this.#isOver) {
      await this.#take(20).catch(() => 0)
      await pause(everyMs)
    }
  }

  /** To the first node that answers. */
  async #connect(): Promise<ChannelModel> {
    for (const url of this.#urls) {
      const connection = await connect(url, { timeout: 5_000 }).catch(() => null)
      if (connection === null) continue
      connection.on('error', () => undefined)
      return connection
    }
    throw new Error('no node answers')
  }

  /**
   * How many there were, at most so many. A call that waits for its answer when the node dies may wait
   * for ever in amqplib: after a while the connection is left to itself.
   */
  async #take(most: number): Promise<number> {
    const connection = await this.#connect()
    const taking = this.#takeFrom(connection, most)
    taking.catch(() => undefined)
    const isOver = new AbortController()
    const late = pause(TAKE_LIMIT_MS, null, { signal: isOver.signal }).catch(() => null)
    const count = await Promise.race([taking, late]).finally(() => isOver.abort())
    if (count !== null) return count
    connection.close().catch(() => undefined)
    throw new Error(`no end of taking within ${TAKE_LIMIT_MS} ms`)
  }

  async #takeFrom(connection: ChannelModel, most: number): Promise<number> {
    try {
      const channel = await connection.createChannel()
      channel.on('error', () => undefined)
      let count = 0
      for (; count < most; count++) {
        const message = await channel.get(QUEUE)
        if (message === false) break
        this.taken.add(String(message.properties.messageId))
        channel.ack(message)
      }
      await channel.close()
      return count
    } finally {
      await connection.close().catch(() => undefined)
    }
  }
}

/** Publishes one after the other in small bursts, each message with an id of its own. */
class Writer {
  readonly outcomes = new Map<string, SendOutcome>()
  readonly #broker: Broker
  #sent = 0
  #isOver = false
  #running: Promise<void> = Promise.resolve()

  constructor(broker: Broker) {
    this.#broker = broker
  }

  ids(status: SendOutcome['status']): readonly string[] {
    return [...this.outcomes].filter(([, one]) => one.status === status).map(([id]) => id)
  }

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  async #run(): Promise<void> {
    const sender = this.#broker.sender('settle')
    while (!this.#isOver) {
      const batch = Array.from({ length: 20 }, () =>
        envelope('orders', `m-${this.#sent++}`, { to: GROUP }),
      )
      const deadline = systemClock.now() + 60_000
      sender.send(batch, deadline, (from, to, outcome) => {
        for (const { id } of batch.slice(from, to)) this.outcomes.set(id!, outcome)
      })
      await until(
        'all are answered',
        async () => batch.every(({ id }) => this.outcomes.has(id!)),
        90_000,
      )
    }
    await sender.close(systemClock.now() + 10_000)
  }
}

describe('a full quorum queue on three nodes', () => {
  let cluster: RabbitmqCluster
  beforeAll(async () => void (cluster = await startCluster()), 300_000)
  afterAll(() => cluster.remove())

  it('has stored nothing of what it refused, although its leader is killed again and again', async () => {
    const [first] = cluster.nodes
    const vhost = await first!.vhost()
    const urls = cluster.nodes.map((node) => node.url(vhost.name))
    const broker = rabbitmq({ url: urls })
    await broker.open(contextOf([]))
    expect(await broker.provision(topologyOf('orders'), 'create')).toEqual([])
    const limit = [
      '-p',
      vhost.name,
      'full',
      `^${QUEUE}$`,
      '{"max-length":40}',
      '--apply-to',
      'queues',
    ]
    await first!.ctl('set_policy', ...limit)
    const drain = new Drain(urls)
    const writer = new Writer(broker)
    drain.start(200)
    writer.start()
    const refused = (): number => writer.ids('refused').length
    for (let kill = 0; kill < KILLS; kill++) {
      await cluster.untilWhole(vhost.name, QUEUE)
      const before = [refused(), writer.ids('confirmed').length] as const
      const leader = await cluster.leaderOf(vhost.name, QUEUE)
      await leader.kill()
      const since = (): readonly [number, number] => [
        refused() - before[0],
        writer.ids('confirmed').length - before[1],
      ]
      await until(
        () => `more than 20 refused and 20 confirmed after kill ${kill}, but ${String(since())}`,
        async () => since().every((count) => count > 20),
        120_000,
      )
      await leader.start()
    }
    await writer.stop()
    await drain.rest()
    expect(writer.ids('refused').filter((id) => drain.taken.has(id))).toEqual([])
    expect(writer.ids('confirmed').filter((id) => !drain.taken.has(id))).toEqual([])
    expect(refused()).toBeGreaterThan(KILLS * 20)
    await broker.close(systemClock.now() + 10_000)
    await vhost.remove()
  })
})
