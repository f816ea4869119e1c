import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { startNode } from '../brokers/rabbitmq.ts'
import { Rig } from '../adapters/rabbitmq/harness.ts'
import { inTraffic, type TrafficOptions } from './rabbitmq/traffic.ts'

const { node, remove } = await startNode()
afterAll(remove)

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

/** A virtual host of its own behind a proxy, and traffic that goes through it. */
async function place(): Promise<{ rig: Rig; options: TrafficOptions }> {
  const rig = await Rig.open(node)
  cleanUps.push(() => rig.close())
  return { rig, options: { urls: rig.urls, directUrl: rig.vhost.url } }
}

/** The process that runs the test also runs vitest and the proxy. */
const bounds = { rss: 900 }
const seconds = (count: number): Promise<void> => pause(count * 1_000)

describe('a RabbitMQ node under traffic', () => {
  it('is killed five times, and nothing confirmed is lost', async () => {
    const { options } = await place()
    await inTraffic(options, async (traffic) => {
      await node.sync()
      for (let n = 0; n < 5; n++) {
        await traffic.during('kill -9', async () => {
          await node.kill()
          await node.start()
        })
        await traffic.flows()
        await seconds(10)
      }
      await traffic.verdict({ bounds, demands: { published: 1_000, delivered: 1_000, faults: 5 } })
    })
  })

  it('stands still for 20 s, and everything goes on in order', async () => {
    const { options } = await place()
    await inTraffic(options, async (traffic) => {
      await traffic.during('SIGSTOP', async () => {
        const goOn = await node.pause()
        cleanUps.push(goOn)
        await seconds(20)
        await goOn()
      })
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 200, delivered: 200, faults: 1 } })
    })
  })

  it('has a memory alarm for 30 s: publishers wait, and nothing comes twice', async () => {
    const { options } = await place()
    await inTraffic(options, async (traffic) => {
      await traffic.during('memory alarm', async () => {
        const clear = await node.memoryAlarm()
        cleanUps.push(clear)
        await seconds(5)
        const before = traffic.confirmed
        await seconds(25)
        expect(traffic.confirmed - before).toBeLessThan(50)
        await clear()
      })
      await traffic.flows()
      const demands = { published: 200, delivered: 200, faults: 1 }
      await traffic.verdict({ bounds, duplicates: 0, demands })
    })
  })

  it('closes every connection again and again', async () => {
    const { options } = await place()
    await inTraffic(options, async (traffic) => {
      for (let n = 0; n < 8; n++) {
        await traffic.during('close_all_connections', () => node.closeAllConnections())
        await seconds(2)
      }
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 500, delivered: 500, faults: 8 } })
    })
  })
})

describe('the way to a RabbitMQ node under traffic', () => {
  it('is reset every 0.7 s for 20 s', async () => {
    const { rig, options } = await place()
    await inTraffic({ ...options, keys: 64, pauseMs: 20 }, async (traffic) => {
      let resets = 0
      await traffic.during('resets', async () => {
        for (let n = 0; n < 28; n++) {
          await pause(700)
          resets += rig.proxies[0]!.reset()
        }
      })
      expect(resets).toBeGreaterThan(28)
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 1_000, delivered: 1_000, faults: 1 } })
    })
  })

  it('is a black hole for 45 s, which is longer than the heartbeat takes to notice', async () => {
    const { rig, options } = await place()
    await inTraffic(options, async (traffic) => {
      await traffic.during('black hole', async () => {
        const hole = rig.proxies[0]!.blackHole()
        await seconds(45)
        expect(hole.fired).toBeGreaterThan(0)
        hole.heal()
      })
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 200, delivered: 200, faults: 1 } })
    })
  })

  it('loses one confirm in ten', async () => {
    const { rig, options } = await place()
    await inTraffic(options, async (traffic) => {
      let published = 0
      await traffic.during('lost confirms', async () => {
        const rule = rig.proxies[0]!.rule(
          ({ method }) => method === 'basic.publish' && published++ % 10 === 0,
          { do: 'lose-confirm' },
          20,
        )
        await seconds(10)
        rule.heal()
        expect(rule.fired).toBeGreaterThan(5)
      })
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 200, delivered: 200, faults: 1 } })
    })
  })

  it('loses deliveries, which come again when the connection ends', async () => {
    const { rig, options } = await place()
    await inTraffic(options, async (traffic) => {
      await traffic.during('lost deliveries', async () => {
        const rule = rig.proxies[0]!.rule('basic.deliver', { do: 'drop' }, 3)
        await traffic.flows()
        expect(rule.fired).toBe(3)
        rig.proxies[0]!.reset()
      })
      await traffic.flows()
      const demands = { published: 200, delivered: 200, faults: 1 }
      // What overtook the lost ones was handled before anybody could know that they are missing.
      await traffic.verdict({ bounds, ordered: false, demands })
    })
  })

  it('trickles, in one direction and then in the other', async () => {
    const { rig, options } = await place()
    await inTraffic(options, async (traffic) => {
      for (const direction of ['up', 'down'] as const) {
        await traffic.during(`throttled ${direction}`, async () => {
          const fault = rig.proxies[0]!.throttle(direction, 20_000)
          await seconds(10)
          expect(fault.fired).toBeGreaterThan(0)
          fault.heal()
        })
      }
      await traffic.flows()
      await traffic.verdict({ bounds, demands: { published: 200, delivered: 200, faults: 2 } })
    })
  })
})
