import type { BrokerContext } from '../../src/contract/broker.ts'
import { driverOn } from './client-driver.ts'
import type { DriverCaps, KafkaDriver } from './driver.ts'
import { kafkajsClient } from './kafkajs-client.ts'
import type { Resolved } from './options.ts'

/** What kafkajs can keep, with what is done around it here. */
const CAPS: DriverCaps = Object.freeze({
  idempotent: true,
  // Its own offsets in transactions carry no generation, so that a member that was replaced could commit.
  txn: 'none',
  whyNotFenced:
    "kafkajs commits the offsets of a transaction without the consumer's generation, so that one that was replaced could commit them; choose driver: 'platformatic', on Node 22.22 or later",
  commitMetadata: true,
  partitionPause: true,
  staticMembership: false,
})

/**
 * A driver through kafkajs 2.2.4. Rejects with code `missing-package` when kafkajs or what a chosen
 * compression needs is not installed. Connects nowhere yet.
 */
export async function kafkajsDriver(
  options: Resolved,
  context: BrokerContext,
): Promise<KafkaDriver> {
  const client = await kafkajsClient(options, context.random)
  return driverOn({ name: 'kafkajs', caps: CAPS, client }, options, context)
}
