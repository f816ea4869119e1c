import { afterAll, describe, it } from 'vitest'

import { Rig } from '../adapters/rabbitmq/harness.ts'
import { startCluster } from '../brokers/rabbitmq.ts'
import { brokerCases, registerCases } from '../conformance/index.ts'

const cluster = await startCluster()
const [first, ...others] = cluster.nodes
const rig = await Rig.open(first!, ...others)
afterAll(async () => {
  await rig.close()
  await cluster.remove()
})

await registerCases(brokerCases, { describe, it }, () => rig.harness('a RabbitMQ cluster of three'))
