import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, it } from 'vitest'

import { Rig } from '../adapters/kafka/harness.ts'
import { startKafkaCluster } from '../brokers/kafka.ts'
import type { KafkaNode } from '../brokers/kafka-node.ts'
import { groundOf } from './kafka/ground.ts'
import { GROUP, inTraffic, type Traffic, type TrafficOptions } from './traffic.ts'

const cluster = await startKafkaCluster()
afterAll(() => cluster.remove())

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
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
