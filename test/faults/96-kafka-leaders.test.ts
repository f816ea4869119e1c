import { afterAll, describe, expect, it } from 'vitest'

import { startKafkaCluster } from '../brokers/kafka.ts'
import { holdfastWriter, lossUnderMovingLeaders, plainWriter } from './kafka/moving-leaders.ts'

const cluster = await startKafkaCluster()
afterAll(() => cluster.remove())

const forMs = 60_000
const atOnce = 4

describe('three Kafka brokers whose leaders move all the time', () => {
  it('make plain kafkajs lose what it calls sent, and holdfast nothing, at no less speed', async () => {
    const plain = await lossUnderMovingLeaders(
      cluster,
      (topic, partitions) => plainWriter(cluster.brokers, topic, { partitions, idempotent: false }),
      { forMs, atOnce },
    )
    const ours = await lossUnderMovingLeaders(
      cluster,
      (topic) => holdfastWriter(cluster.brokers, topic),
      { forMs, atOnce },
    )
    console.log(`plain kafkajs: ${JSON.stringify(plain)}\nholdfast: ${JSON.stringify(ours)}`)
    expect(plain.moves).toBeGreaterThan(100)
    expect(ours.moves).toBeGreaterThan(100)
    expect(plain.lost, 'without a loss of plain kafkajs the run has shown nothing').toBeGreaterThan(
      0,
    )
    expect(ours.lost).toBe(0)
    expect(ours.acknowledged).toBeGreaterThan(1_000)
    expect(ours.perSecond).toBeGreaterThanOrEqual(plain.perSecond)
  })

  it('make plain idempotent kafkajs lose records too, four sends at a time', async () => {
    const plain = await lossUnderMovingLeaders(
      cluster,
      (topic, partitions) => plainWriter(cluster.brokers, topic, { partitions, idempotent: true }),
      { forMs: forMs / 2, atOnce },
    )
    console.log(`plain idempotent kafkajs: ${JSON.stringify(plain)}`)
    expect(plain.moves).toBeGreaterThan(50)
    expect(plain.lost).toBeGreaterThan(0)
  })
})
