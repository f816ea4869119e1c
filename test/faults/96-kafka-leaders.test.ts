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
const atOnce = 4

type Open = Parameters<typeof lossUnderMovingLeaders>[1]

const { brokers } = cluster
const plain =
  (idempotent: boolean): Open =>
  (topic, partitions) =>
    plainWriter(brokers, topic, { partitions, idempotent })
const ours: Open = (topic) => holdfastWriter(brokers, topic)

/** Each of them in turn, round by round; sums by their place. */
async function inTurns(...all: readonly Open[]): Promise<readonly Loss[]> {
  const sums: Loss[] = all.map(() => NOTHING)
  for (let round = 0; round < ROUNDS; round++) {
    for (const [n, open] of all.entries()) {
      sums[n] = added(sums[n]!, await lossUnderMovingLeaders(cluster, open, { forMs, atOnce }))
    }
  }
  return sums
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
    // What is called sent and is not there was not sent at any speed.
    expect(holdfast!.acknowledged / holdfast!.tookS).toBeGreaterThanOrEqual(
      (bare!.acknowledged - bare!.lost) / bare!.tookS,
    )
  })
})
