import type { BrokerContext, Deadline } from '../../src/contract/broker.ts'
import type { DriverAdmin, KafkaDriver } from './driver.ts'
import { kafkajsDriver } from './kafkajs-driver.ts'
import type { DriverName, Resolved } from './options.ts'
import { platformaticDriver } from './platformatic-driver.ts'

/** One driver for each way; the same when the same was chosen for both. */
export interface Drivers {
  readonly producer: KafkaDriver
  readonly consumer: KafkaDriver
  readonly admin: DriverAdmin
  /** Never rejects. */
  close(deadline: Deadline): Promise<void>
}

type MakeDriver = (options: Resolved, context: BrokerContext) => Promise<KafkaDriver>

const makers: Readonly<Record<DriverName, MakeDriver>> = {
  kafkajs: kafkajsDriver,
  platformatic: platformaticDriver,
}

/** Loads the clients that were chosen. Rejects with code `missing-package` for what is not installed. */
export async function openDrivers(options: Resolved, context: BrokerContext): Promise<Drivers> {
  const { driver } = options
  const producer = await makers[driver.producer](options, context)
  const isSame = driver.producer === driver.consumer
  const consumer = isSame ? producer : await makers[driver.consumer](options, context)
  return {
    producer,
    consumer,
    admin: consumer.admin,
    close: async (deadline) => {
      await Promise.all([consumer.close(deadline), isSame ? undefined : producer.close(deadline)])
    },
  }
}
