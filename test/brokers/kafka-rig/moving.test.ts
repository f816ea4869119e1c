import { randomBytes } from 'node:crypto'

import { afterEach, describe, expect, it } from 'vitest'

import { systemClock } from '../../../src/contract/clock.ts'
import { eventually } from '../../conformance/wait.ts'
import { expelMembers, membersOf } from '../kafka-groups.ts'
import { LeaderMover } from '../kafka-leaders.ts'
import { createTopic, plainKafka } from '../kafka-topics.ts'
import { sharedKafkaCluster } from '../shared-kafka.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp()
})

const soon = (what: () => string, condition: () => boolean): Promise<void> =>
  eventually(systemClock, 60_000, what, condition)

const name = (): string => `rig-${randomBytes(6).toString('hex')}`

describe('what moves among the three brokers of the Kafka tests', () => {
  it('are leaders, back and forth', async () => {
    const cluster = await sharedKafkaCluster()
    const topic = name()
    await createTopic(cluster.brokers, topic, { partitions: 6 })
    await cluster.untilInSync(topic)
    const mover = await LeaderMover.start(cluster, topic)
    let isStopped = false
    cleanUps.push(() => (isStopped ? undefined : mover.stop()))
    await soon(
      () => `${mover.moves} moves, ${mover.errors.join(', ')}`,
      () => mover.moves >= 12,
    )
    await mover.stop()
    isStopped = true
  })

  it('are members of a group that are taken out of it', async () => {
    const cluster = await sharedKafkaCluster()
    const [topic, groupId] = [name(), name()]
    await createTopic(cluster.brokers, topic)
    const consumer = plainKafka(cluster.brokers).consumer({ groupId, heartbeatInterval: 300 })
    cleanUps.push(() => consumer.disconnect())
    let joins = 0
    consumer.on(consumer.events.GROUP_JOIN, () => joins++)
    await consumer.connect()
    await consumer.subscribe({ topic })
    await consumer.run({ eachMessage: () => Promise.resolve() })
    await soon(
      () => 'it did not join',
      () => joins === 1,
    )
    const before = await membersOf(cluster.nodes, groupId)
    expect(await expelMembers(cluster.nodes, groupId)).toEqual(before)
    await soon(
      () => 'it did not join again',
      () => joins === 2,
    )
    const after = await membersOf(cluster.nodes, groupId)
    expect(after).not.toContain(before[0])
    expect(after).toHaveLength(1)
  })
})
