import { kafkajsDriver } from '../../../adapters/kafka/kafkajs-driver.ts'
import { kafkajsClient } from '../../../adapters/kafka/kafkajs-client.ts'
import type { Clusters } from '../../../adapters/kafka/cluster.ts'
import {
  resolveOptions,
  type DriverName,
  type KafkajsClient,
  type KafkaOptions,
} from '../../../adapters/kafka/options.ts'
import {
  platformaticClient,
  platformaticDriver,
} from '../../../adapters/kafka/platformatic-driver.ts'
import { systemRandom } from '../../../src/contract/clock.ts'

const isOther = process.env.HOLDFAST_KAFKA_DRIVER === 'platformatic'

/** The driver that tests with real brokers use: the project `platformatic` runs them with the other one. */
export const driverUnderTest: DriverName = isOther ? 'platformatic' : 'kafkajs'

/** Its driver. */
export const makeDriver: typeof kafkajsDriver = isOther ? platformaticDriver : kafkajsDriver

/** Its client, as links and the admin take one. */
export function clientUnderTest(given: KafkaOptions): Promise<KafkajsClient | Clusters> {
  const options = resolveOptions({ ...given, driver: driverUnderTest })
  return isOther ? platformaticClient(options, systemRandom) : kafkajsClient(options, systemRandom)
}
