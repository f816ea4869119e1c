import { randomBytes } from 'node:crypto'

import { afterEach, describe, expect, it } from 'vitest'

import { ClusterGroupLink } from '../../../adapters/kafka/cluster-group-link.ts'
import { systemClock } from '../../../src/contract/clock.ts'
import { askCoordinator } from '../../brokers/kafka-ask.ts'
import { createTopic } from '../../brokers/kafka-topics.ts'
import { sharedKafkaCluster } from '../../brokers/shared-kafka.ts'
import { eventually } from '../../conformance/wait.ts'
import { clientUnderTest } from './client-under-test.ts'

const LIMIT_MS = 60_000

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

describe('ClusterGroupLink', () => {
  it('finds the node that keeps the group instead of one that stays dead', async () => {
    const cluster = await sharedKafkaCluster()
    const topic = `coordinator-${randomBytes(6).toString('hex')}`
    await createTopic(cluster.brokers, topic)
    await cluster.untilInSync(topic)
    const link = new ClusterGroupLink({
      client: await clientUnderTest({ brokers: [...cluster.brokers] }),
      clock: systemClock,
      groupId: topic,
      topics: [topic],
      sessionTimeoutMs: 6_000,
      rebalanceTimeoutMs: 6_000,
    })
    const soon = (): number => systemClock.now() + 10_000
    cleanUps.push(() => link.close(soon()))
    await link.open(soon())
    const part = { topic, partition: 0 }
    await eventually(
      systemClock,
      LIMIT_MS,
      () => 'the group had no coordinator',
      () => answered(() => link.committed([part], soon())),
    )
    await cluster.untilInSync('__consumer_offsets')
    const { ports } = cluster.nodes[0]!.address
    const victim = cluster.node(await askCoordinator(ports.clients, topic))
    await victim.kill()
    cleanUps.push(() => victim.start())
    await eventually(
      systemClock,
      LIMIT_MS,
      () => 'nobody else was asked',
      () => answered(() => link.committed([part], soon())),
    )
    expect(await link.committed([part], soon())).toMatchObject([{ offset: null }])
  })
})

async function answered(ask: () => Promise<unknown>): Promise<boolean> {
  return ask().then(
    () => true,
    () => false,
  )
}
