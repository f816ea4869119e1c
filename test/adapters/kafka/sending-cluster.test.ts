import assert from 'node:assert/strict'

import { afterEach, describe, expect, it } from 'vitest'

import { LeaderMover } from '../../brokers/kafka-leaders.ts'
import { sharedKafkaCluster } from '../../brokers/shared-kafka.ts'
import { eventually } from '../../conformance/wait.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { firstPlaces, keyed, SendingPlace } from './sending-place.ts'

const cluster = await sharedKafkaCluster()
const replicated = { replication: 3, config: { 'min.insync.replicas': '2' } }
const closing: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

async function place(): Promise<SendingPlace> {
  const opened = await SendingPlace.open({ brokers: cluster.brokers })
  closing.push(async () => {
    await opened.close()
    assert.deepEqual(opened.breaches, [])
  })
  return opened
}

/** Every confirmed one is in the log, no refused one is, none is there twice, each key is in order. */
async function checkLog(at: SendingPlace, topic: string): Promise<void> {
  const records = await at.read(topic)
  const values = new Set(records.map(({ value }) => String(value)))
  for (const id of at.ids('confirmed')) assert.ok(values.has(id), `${id} was confirmed`)
  for (const id of at.ids('refused')) assert.ok(!values.has(id), `${id} was refused`)
  assert.equal(values.size, records.length, 'stored twice')
  for (const ids of firstPlaces(records).values()) assert.deepEqual(ids, ids.toSorted())
}

describe('sending to three brokers', () => {
  it('loses and doubles nothing while leaders move, and keeps the order of keys', async () => {
    const at = await place()
    const topic = await at.topic({ partitions: 6, ...replicated })
    const mover = await LeaderMover.start(cluster, topic)
    closing.push(() => mover.stop())
    let call = 0
    while (mover.moves < 40) {
      at.send(keyed(topic, String(call++).padStart(6, '0'), 60, 24), 50_000)
      await at.idle()
    }
    await mover.stop()
    closing.pop()
    expect(at.summary).toEqual({ confirmed: call * 60 })
    expect(mover.moves).toBeGreaterThanOrEqual(40)
    await checkLog(at, topic)
  })

  it('goes on when the leader dies, in order and without doubles', async () => {
    const at = await place()
    const topic = await at.topic({ partitions: 3, ...replicated })
    at.send(keyed(topic, '000000', 30, 6))
    await at.idle()
    const leader = await cluster.leaderOf(topic, 0)
    closing.push(async () => {
      await leader.start()
      await cluster.untilInSync(topic)
    })
    let call = 1
    const killed = leader.kill()
    for (; call < 200; call++) {
      at.send(keyed(topic, String(call).padStart(6, '0'), 30, 6), 50_000)
      await at.idle()
    }
    await killed
    expect(at.summary).toEqual({ confirmed: call * 30 })
    await checkLog(at, topic)
  })

  it('refuses or does not know what two of three brokers cannot store, and recovers', async () => {
    const at = await place()
    const topic = await at.topic({ partitions: 3, ...replicated })
    at.send(keyed(topic, '000000', 30, 6))
    await at.idle()
    const [, second, third] = cluster.nodes
    await Promise.all([second!.stop(), third!.stop()])
    try {
      for (let call = 1; call < 6; call++) {
        at.send(keyed(topic, `00000${call}`, 30, 6), 2_000)
        await at.idle()
      }
      const words = Object.keys(at.summary).toSorted()
      expect(words.filter((word) => word.startsWith('confirmed'))).toEqual(['confirmed'])
      expect(at.ids('confirmed')).toHaveLength(30)
      expect(at.health).toContain('weak')
    } finally {
      await Promise.all([second!.start(), third!.start()])
      await cluster.untilInSync(topic)
    }
    let attempt = 0
    await eventually(
      systemClock,
      60_000,
      () => JSON.stringify(at.summary),
      async () => {
        at.send(keyed(topic, `1${String(attempt++).padStart(5, '0')}`, 30, 6), 10_000)
        await at.idle()
        return at.ids('confirmed').length >= 60
      },
    )
    const records = await at.read(topic)
    const values = new Set(records.map(({ value }) => String(value)))
    for (const id of at.ids('confirmed')) assert.ok(values.has(id), `${id} was confirmed`)
    for (const id of at.ids('refused')) assert.ok(!values.has(id), `${id} was refused`)
  })
})
