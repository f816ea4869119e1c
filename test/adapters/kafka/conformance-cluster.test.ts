import { afterAll, describe, it } from 'vitest'

import { sharedKafkaCluster } from '../../brokers/shared-kafka.ts'
import { brokerCases, registerCases } from '../../conformance/index.ts'
import { Rig } from './harness.ts'

const { nodes } = await sharedKafkaCluster()
const rig = await Rig.open(...nodes)
afterAll(() => rig.close())
await registerCases(brokerCases, { describe, it }, () => rig.harness('kafka on three brokers'))
