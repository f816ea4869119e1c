import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { openDatabase } from '../../adapters/sqlite/database.ts'
import { sqliteOutbox } from '../../adapters/sqlite/outbox.ts'
import type { SqliteTransaction } from '../../adapters/sqlite/transaction.ts'
import { OutcomeUnknownError, PublishRefusedError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { ReliablePublisher } from '../../src/publish/publisher.ts'
import { OutboxRelay } from '../../src/publish/relay.ts'
import { Rig } from '../adapters/kafka/harness.ts'
import { until } from '../brokers/handshake.ts'
import { startKafkaCluster } from '../brokers/kafka.ts'
import type { KafkaNode } from '../brokers/kafka-node.ts'
import { readAll } from '../brokers/kafka-read.ts'
import { groundOf } from './kafka/ground.ts'
import { GROUP, inTraffic, type Traffic, type TrafficOptions } from './traffic.ts'

const cluster = await startKafkaCluster()
afterAll(() => cluster.remove())

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
  // What failed may have left one dead, and would take the next test with it.
  for (const node of cluster.nodes) if (!(await node.isRunning())) await node.start()
})

const bounds = { rss: 900 }
const demands = { published: 300, delivered: 300 }

async function place(): Promise<TrafficOptions> {
  const rig = await Rig.open(...cluster.nodes)
  cleanUps.push(() => rig.close())
  return { ground: groundOf(rig) }
}

/** Every replica of what matters is in sync, so that one broker less is not one too few. */
async function whole({ topicName }: Traffic): Promise<void> {
  await cluster.untilInSync(topicName, `${topicName}.${GROUP}.dead`, '__consumer_offsets')
}

async function kill(traffic: Traffic, victim: KafkaNode): Promise<void> {
  await traffic.during(`kill -9 of broker ${victim.id}`, async () => {
    await victim.kill()
    await traffic.flows()
    await victim.start()
  })
}

/** A database with an outbox, and what publishers and relays of it need. */
async function outboxPlace(name: string) {
  const rig = await Rig.open(...cluster.nodes)
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-outbox-'))
  const file = join(folder, 'app.db')
  const database = await openDatabase({ file })
  const outbox = sqliteOutbox({ file })
  cleanUps.push(
    () => rmSync(folder, { recursive: true, force: true }),
    () => rig.close(),
    () => database.close(),
    () => outbox.close(),
  )
  const untilRows = (count: number): Promise<void> =>
    until(
      `${count} rows in the outbox`,
      async () => (await outbox.stats()).pending === count,
      120_000,
    )
  const options = () =>
    ({
      broker: groundOf(rig).broker(),
      outbox,
      topics: { [name]: { groups: [], partitions: 6 } },
      logging: 'silent',
    }) as const
  return { database, outbox, options, untilRows }
}

describe('three Kafka brokers under traffic', () => {
  it('lose a leader or their controller ten times, each time the last one is back', async () => {
    await inTraffic(await place(), async (traffic) => {
      for (let n = 0; n < 10; n++) {
        await whole(traffic)
        const isLeader = n % 2 === 0
        const victim = isLeader
          ? await cluster.leaderOf(traffic.topicName, n % 6)
          : await cluster.controller()
        await kill(traffic, victim)
      }
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { ...demands, faults: 10 } })
    })
  })

  it('go on while a leader is cut off from the others', async () => {
    await inTraffic(await place(), async (traffic) => {
      await whole(traffic)
      await traffic.during('partition', async () => {
        const leader = await cluster.leaderOf(traffic.topicName, 0)
        const heal = await cluster.isolate(leader)
        cleanUps.push(heal)
        await pause(30_000)
        await heal()
      })
      await traffic.flows()
      await whole(traffic)
      await traffic.verdict({ bounds, demands: { ...demands, faults: 1 } })
    })
  })

  it('take nothing while two of them are down, and everything goes on afterwards', async () => {
    await inTraffic(await place(), async (traffic) => {
      await whole(traffic)
      await traffic.during('two of three down', async () => {
        const stays = await cluster.leaderOf(traffic.topicName, 0)
        const others = cluster.nodes.filter((node) => node !== stays)
        await Promise.all(others.map((node) => node.kill()))
        await pause(20_000)
        await Promise.all(others.map((node) => node.start()))
      })
      await traffic.flows()
      await whole(traffic)
      await traffic.verdict({ bounds, demands: { ...demands, faults: 1 } })
    })
  })

  it('leave an outbox its rows while two of them are down, and get them all afterwards', async () => {
    const name = `orders-${randomBytes(4).toString('hex')}`
    const items = topic<{ n: number }>(name, { key: ({ n }) => `k${n % 20}` })
    const place = await outboxPlace(name)
    const publisher = new ReliablePublisher<SqliteTransaction>(place.options())
    cleanUps.push(() => publisher.close())
    await publisher.open()
    const write = (from: number, count: number): Promise<unknown> =>
      place.database.transaction((tx) =>
        publisher.publishBatchIn(
          tx,
          items,
          Array.from({ length: count }, (_, n) => ({ n: from + n })),
          (_, index) => ({ id: `o-${from + index}` }),
        ),
      )
    await write(0, 100)
    const relay = new OutboxRelay({ ...place.options(), leaseMs: 2_000 })
    cleanUps.push(() => relay.close())
    await relay.start()
    await place.untilRows(0)
    await cluster.untilInSync(name)
    const stays = await cluster.leaderOf(name, 0)
    const others = cluster.nodes.filter((node) => node !== stays)
    await Promise.all(others.map((node) => node.kill()))
    await write(100, 200)
    const direct = publisher.publish(items, { n: 0 }, { id: 'direct', deadlineMs: 5_000 })
    const error: unknown = await direct.then(
      () => null,
      (reason: unknown) => reason,
    )
    expect(
      error instanceof PublishRefusedError || error instanceof OutcomeUnknownError,
      `not ${String(error)}`,
    ).toBe(true)
    await pause(5_000)
    const { pending } = await place.outbox.stats()
    expect(pending, 'rows left although nothing was confirmed').toBe(200)
    await Promise.all(others.map((node) => node.start()))
    await place.untilRows(0)
    const ids = (await readAll(cluster.brokers, name)).map(({ headers }) =>
      String(headers['ce_id']),
    )
    const stored = new Set(ids.filter((id) => id.startsWith('o-')))
    expect(stored).toEqual(new Set(Array.from({ length: 300 }, (_, n) => `o-${n}`)))
  })

  it('are restarted one after another', async () => {
    await inTraffic(await place(), async (traffic) => {
      for (const node of cluster.nodes) {
        await whole(traffic)
        await traffic.during('restart', () => node.restart())
        await traffic.flows()
      }
      await traffic.verdict({ bounds, demands: { ...demands, faults: 3 } })
    })
  })
})
