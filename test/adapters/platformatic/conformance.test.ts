import { afterAll, describe, it } from 'vitest'

import { sharedKafka } from '../../brokers/shared-kafka.ts'
import { brokerCases, registerCases } from '../../conformance/index.ts'
import { Rig } from '../kafka/harness.ts'

const rig = await Rig.open(await sharedKafka())
afterAll(() => rig.close())
await registerCases(brokerCases, { describe, it }, () =>
  rig.harness('kafka on one broker, through @platformatic/kafka', { driver: 'platformatic' }),
)
