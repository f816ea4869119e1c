import { afterAll, describe, it } from 'vitest'

import { Rig, type Variant } from '../adapters/rabbitmq/harness.ts'
import { startNode } from '../brokers/rabbitmq.ts'
import { brokerCases, registerCases } from '../conformance/index.ts'

const { node, remove } = await startNode({ version: 'old' })
afterAll(remove)

const variants: readonly (readonly [name: string, variant: Variant])[] = [
  ['RabbitMQ before 4.3 with quorum queues', {}],
  ['RabbitMQ before 4.3 with classic queues', { queueType: 'classic' }],
]

for (const [name, variant] of variants) {
  const rig = await Rig.open(node)
  afterAll(() => rig.close())
  await registerCases(brokerCases, { describe, it }, () => rig.harness(name, variant))
}
