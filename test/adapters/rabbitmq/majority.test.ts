import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { startCluster } from '../../brokers/rabbitmq.ts'
import type { RabbitmqCluster } from '../../brokers/rabbitmq-cluster.ts'
import { BrokerStage, envelopeTo, sent, soon, topicOf, topologyOf } from './broker-stage.ts'

let cluster: RabbitmqCluster
beforeAll(async () => void (cluster = await startCluster()), 300_000)
afterAll(() => cluster.remove())

const levels = { retryLevelsMs: [1_000] }

describe('topology on three nodes', () => {
  it('goes on with what is there while two nodes are away, and makes the rest when they are back', async () => {
    const [first, second, third] = cluster.nodes
    const stage = await BrokerStage.on(first!)
    const { broker, events } = await stage.open({ rpcTimeoutMs: 5_000 })
    await soon('all nodes hold queues', async () => {
      await broker.provision(topologyOf('orders', levels), 'create')
      const { members } = await stage.management.queue(stage.vhost.name, 'orders.a')
      return members?.length === 3
    })
    expect(await sent(broker, envelopeTo('orders', 'before'))).toEqual({ status: 'confirmed' })
    await Promise.all([second!.kill(), third!.kill()])
    const findings = await broker.provision(topologyOf('orders', levels), 'create')
    expect(findings.filter(({ severity }) => severity === 'error')).toEqual([])
    const fresh = { topics: [topicOf('fresh', levels)] }
    await expect(broker.provision(fresh, 'create')).rejects.toMatchObject({
      code: expect.stringMatching(/^(timeout|connection-lost|unavailable)$/) as string,
    })
    await Promise.all([second!.start(), third!.start()])
    await soon('a majority is back', () =>
      broker.provision(fresh, 'create').then(
        (found) => found.every(({ severity }) => severity !== 'error'),
        () => false,
      ),
    )
    await soon('it publishes again', async () => {
      return (await sent(broker, envelopeTo('fresh', 'after'))).status === 'confirmed'
    })
    expect(events.filter(({ type }) => type !== 'warning')).toEqual([])
    await stage.close()
  }, 400_000)
})
