import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { Rig } from '../adapters/rabbitmq/harness.ts'
import { startCluster } from '../brokers/rabbitmq.ts'
import { inTraffic, queuesOf, type Traffic, type TrafficOptions } from './rabbitmq/traffic.ts'

/** From 4.3 on a queue waits 60 s for the consumers of a node that is gone, unless told otherwise. */
const cluster = await startCluster({ conf: ['consumer_disconnected_timeout = 10000'] })
afterAll(() => cluster.remove())

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

const bounds = { rss: 900 }
const demands = { published: 300, delivered: 300 }

async function place(): Promise<{ vhost: string; options: TrafficOptions }> {
  const [first, ...others] = cluster.nodes
  const rig = await Rig.open(first!, ...others)
  cleanUps.push(() => rig.close())
  return { vhost: rig.vhost.name, options: { urls: rig.urls, directUrl: rig.vhost.url } }
}

/** All queues have all their members. */
async function whole(traffic: Traffic, vhost: string): Promise<void> {
  for (const queue of queuesOf(traffic)) await cluster.untilWhole(vhost, queue)
}

describe('three RabbitMQ nodes under traffic', () => {
  it('lose the leader of a queue ten times, each time the last one is back', async () => {
    const { vhost, options } = await place()
    await inTraffic(options, async (traffic) => {
      for (let n = 0; n < 10; n++) {
        await whole(traffic, vhost)
        await traffic.during('kill -9 of a leader', async () => {
          const leader = await cluster.leaderOf(vhost, queuesOf(traffic)[n % 4]!)
          await leader.kill()
          await traffic.flows()
          await leader.start()
        })
      }
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { ...demands, faults: 10 } })
    })
  })

  it('go on while the leader of a queue is cut off from the others', async () => {
    const { vhost, options } = await place()
    await inTraffic(options, async (traffic) => {
      await whole(traffic, vhost)
      await traffic.during('partition', async () => {
        const leader = await cluster.leaderOf(vhost, queuesOf(traffic)[0]!)
        const heal = await cluster.isolate(leader)
        cleanUps.push(heal)
        await pause(30_000)
        await heal()
      })
      await traffic.flows()
      await whole(traffic, vhost)
      await traffic.verdict({ bounds, demands: { ...demands, faults: 1 } })
    })
  })

  it('confirm nothing while two of them are gone, and everything when they are back', async () => {
    const { vhost, options } = await place()
    await inTraffic(options, async (traffic) => {
      await whole(traffic, vhost)
      const [, ...lost] = cluster.nodes
      await traffic.during('no majority', async () => {
        await Promise.all(lost.map((node) => node.kill()))
        const before = traffic.confirmed
        await pause(20_000)
        expect(traffic.confirmed).toBe(before)
        await Promise.all(lost.map((node) => node.start()))
      })
      await traffic.flows()
      await whole(traffic, vhost)
      await traffic.verdict({ bounds, demands: { ...demands, faults: 1 } })
    })
  })

  it('are restarted one after another', async () => {
    const { vhost, options } = await place()
    await inTraffic(options, async (traffic) => {
      for (const node of cluster.nodes) {
        await whole(traffic, vhost)
        await traffic.during('restart', () => node.restart())
        await traffic.flows()
      }
      await traffic.verdict({ bounds, demands: { ...demands, faults: 3 } })
    })
  })
})
