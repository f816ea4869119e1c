import { setTimeout as pause } from 'node:timers/promises'

import { afterAll, afterEach, describe, expect, it } from 'vitest'

import { Rig } from '../adapters/kafka/harness.ts'
import { startKafka } from '../brokers/kafka.ts'
import type { Action } from '../brokers/proxy/kafka-proxy.ts'
import { groundOf } from './kafka/ground.ts'
import { inTraffic, type TrafficOptions } from './traffic.ts'

const { node, remove } = await startKafka()
afterAll(remove)

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

/** The broker behind a proxy, and traffic that goes through it. */
async function place(): Promise<{ rig: Rig; options: TrafficOptions }> {
  const rig = await Rig.open(node)
  cleanUps.push(() => rig.close())
  return { rig, options: { ground: groundOf(rig) } }
}

/** The process that runs the test also runs vitest and the proxy. */
const bounds = { rss: 900 }
const demands = { published: 200, delivered: 200, faults: 1 }
const seconds = (count: number): Promise<void> => pause(count * 1_000)

/** What may happen to one request in five that writes, and how often at least within ten seconds. */
const accidents: readonly (readonly [name: string, action: Action, least: number])[] = [
  ['loses the answer', { do: 'lose-answer' }, 2],
  ['loses the request', { do: 'drop' }, 2],
  ['gets the answer two seconds late', { do: 'delay-answer', ms: 2_000 }, 2],
  ['gets the request two seconds late', { do: 'delay', ms: 2_000 }, 2],
  ['is cut off before it arrives', { do: 'reset' }, 3],
  ['is cut off in place of the answer', { do: 'reset-answer' }, 3],
]

/** Errors that say nothing of what is stored, and what kafkajs makes of them. */
const errors: readonly (readonly [name: string, code: number])[] = [
  ['NOT_LEADER_OR_FOLLOWER', 6],
  ['REQUEST_TIMED_OUT', 7],
  ['NOT_ENOUGH_REPLICAS_AFTER_APPEND', 20],
  ['OUT_OF_ORDER_SEQUENCE_NUMBER', 45],
  ['INVALID_PRODUCER_EPOCH', 47],
  ['UNKNOWN_PRODUCER_ID', 59],
]

describe('one write in five to a Kafka broker', () => {
  for (const [name, action, least] of accidents) {
    it(`${name}, and nothing is lost or out of order`, async () => {
      const { rig, options } = await place()
      await inTraffic(options, async (traffic) => {
        let writes = 0
        await traffic.during(name, async () => {
          const rule = rig.proxies[0]!.rule(
            ({ api }) => api === 'Produce' && writes++ % 5 === 0,
            action,
            20,
          )
          await seconds(10)
          rule.heal()
          expect(rule.fired).toBeGreaterThanOrEqual(least)
        })
        await traffic.flows()
        await traffic.verdict({ bounds, demands })
      })
    })
  }

  for (const [name, code] of errors) {
    it(`is answered ${name} although it is stored, and nothing is lost or out of order`, async () => {
      const { rig, options } = await place()
      await inTraffic(options, async (traffic) => {
        let writes = 0
        await traffic.during(name, async () => {
          const rule = rig.proxies[0]!.rule(
            ({ api }) => api === 'Produce' && writes++ % 5 === 0,
            { do: 'answer-error', code },
            20,
          )
          await seconds(8)
          rule.heal()
          expect(rule.fired).toBeGreaterThanOrEqual(3)
        })
        await traffic.flows()
        await traffic.verdict({ bounds, demands })
      })
    })
  }
})

describe('the way to a Kafka broker under traffic', () => {
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
      await traffic.verdict({ bounds, demands: { ...demands, published: 500, delivered: 500 } })
    })
  })

  it('is a black hole for 30 s, which is longer than a group waits for its members', async () => {
    const { rig, options } = await place()
    await inTraffic(options, async (traffic) => {
      await traffic.during('black hole', async () => {
        const hole = rig.proxies[0]!.blackHole()
        await seconds(30)
        expect(hole.fired).toBeGreaterThan(0)
        hole.heal()
      })
      await traffic.flows()
      await traffic.verdict({ bounds, demands })
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
      await traffic.verdict({ bounds, demands: { ...demands, faults: 2 } })
    })
  })
})

describe('a Kafka broker under traffic', () => {
  it('is killed four times, and nothing confirmed is lost', async () => {
    const { options } = await place()
    await inTraffic(options, async (traffic) => {
      for (let n = 0; n < 4; n++) {
        await traffic.during('kill -9', async () => {
          await node.kill()
          await node.start()
        })
        await traffic.flows()
      }
      await traffic.verdict({ bounds, demands: { ...demands, faults: 4 } })
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
      await traffic.verdict({ bounds, demands })
    })
  })
})
