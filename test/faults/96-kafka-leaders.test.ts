import { afterAll, describe, expect, it } from 'vitest'

import { startKafkaCluster } from '../brokers/kafka.ts'
import {
  added,
  holdfastWriter,
  lossUnderMovingLeaders,
  NOTHING,
  plainWriter,
  type Loss,
} from './kafka/moving-leaders.ts'

const cluster = await startKafkaCluster()
afterAll(() => cluster.remove())

/** A minute each in all; in turns, since a machine is not equally busy all the time. */
const ROUNDS = 3
const forMs = 20_000
/** Before anything counts: leaders of a cluster that just started move at half the speed, and that helps whoever is first. */
const WARM_UP_MS = 10_000
const atOnce = 4
/** What two minutes of such a cluster tell of speed: the same writer differs by that much from run to run. */
const NOISE = 0.25

type Open = Parameters<typeof lossUnderMovingLeaders>[1]

const { brokers } = cluster
const plain =
  (idempotent: boolean): Open =>
  (topic, partitions) =>
    plainWriter(brokers, topic, { partitions, idempotent })
const ours: Open = (topic) => holdfastWriter(brokers, topic)

/** Each of them in turn, round by round, each round with another one first; sums by their place. */
async function inTurns(...all: readonly Open[]): Promise<readonly Loss[]> {
  const sums: Loss[] = all.map(() => NOTHING)
  await lossUnderMovingLeaders(cluster, all[0]!, { forMs: WARM_UP_MS, atOnce })
  for (let round = 0; round < ROUNDS; round++) {
    for (let turn = 0; turn < all.length; turn++) {
      const n = (round + turn) % all.length
      const loss = await lossUnderMovingLeaders(cluster, all[n]!, { forMs, atOnce })
      sums[n] = added(sums[n]!, loss)
    }
  }
  return sums
}

/** What is called sent and is not there was not sent at any speed. */
function perSecond({ acknowledged, lost, tookS }: Loss): number {
  return (acknowledged - lost) / tookS
}

describe('three Kafka brokers whose leaders move all the time', () => {
  it('make plain kafkajs lose what it calls sent, and holdfast nothing, at no less speed', async () => {
    const [bare, idempotent, holdfast] = await inTurns(plain(false), plain(true), ours)
    const told = { kafkajs: bare, 'idempotent kafkajs': idempotent, holdfast }
    for (const [name, loss] of Object.entries(told)) console.log(`${name}: ${JSON.stringify(loss)}`)
    for (const loss of Object.values(told)) expect(loss!.moves).toBeGreaterThan(100)
    for (const loss of [bare, idempotent]) {
      expect(loss!.lost, 'without a loss of kafkajs the run has shown nothing').toBeGreaterThan(0)
    }
    expect(holdfast!.lost).toBe(0)
    expect(holdfast!.acknowledged).toBeGreaterThan(1_000)
    const ratio = perSecond(holdfast!) / perSecond(bare!)
    console.log(`${ratio.toFixed(2)} times the records a second that kafkajs stored`)
    expect(ratio).toBeGreaterThan(1 - NOISE)
  })
})
