import { afterAll, describe, it } from 'vitest'

import { sharedNode } from '../../brokers/shared-node.ts'
import { brokerCases, registerCases } from '../../conformance/index.ts'
import { Rig, type Variant } from './harness.ts'

const variants: readonly (readonly [name: string, variant: Variant])[] = [
  ['rabbitmq with quorum queues', {}],
  ['rabbitmq with classic queues', { queueType: 'classic' }],
]

for (const [name, variant] of variants) {
  const rig = await Rig.open(sharedNode())
  afterAll(() => rig.close())
  await registerCases(brokerCases, { describe, it }, () => rig.harness(name, variant))
}
