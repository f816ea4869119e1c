import type { ConnectionOptions } from '@platformatic/kafka'

import type { BrokerContext } from '../../src/contract/broker.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { DriverCaps, KafkaDriver } from './driver.ts'
import { driverOn } from './kafkajs-driver.ts'
import type { Resolved } from './options.ts'
import { PlatformaticClusters } from './platformatic-cluster.ts'
import { loadPlatformatic, type Platformatic } from './platformatic-package.ts'
import type { SaslOptions } from './security.ts'

/** What can be kept on its connections. */
const CAPS: DriverCaps = Object.freeze({
  idempotent: true,
  txn: 'fenced',
  commitMetadata: true,
  partitionPause: true,
  staticMembership: false,
})

/** Beyond what any request of ours waits for: we give up first, and cut the connection. */
const BEYOND_MS = 60_000
/** Requests on one connection at a time: what comes after waits in the package's own queue. */
const MOST_AT_ONCE = 1_000

/**
 * A driver on the connections of @platformatic/kafka 2.12.1 or later. Rejects with a `CapabilityError` on
 * a Node or with a version that it cannot be used with, and with code `missing-package` when it, or what a
 * chosen compression needs, is not installed. Connects nowhere yet.
 */
export async function platformaticDriver(
  options: Resolved,
  context: BrokerContext,
  load: () => Promise<Platformatic> = loadPlatformatic,
): Promise<KafkaDriver> {
  const { addresses, clientId } = options
  const { random } = context
  const library = await load()
  const clusters = new PlatformaticClusters({
    ...{ library, clientId, addresses, random },
    options: connectionOptions(options),
  })
  return driverOn({ name: 'platformatic', caps: CAPS, client: clusters }, options, context)
}

function connectionOptions(options: Resolved): ConnectionOptions {
  const { tls, sasl, connectTimeoutMs, requestTimeoutMs, rebalanceTimeoutMs } = options
  return {
    connectTimeout: connectTimeoutMs,
    requestTimeout: Math.max(requestTimeoutMs, rebalanceTimeoutMs) + BEYOND_MS,
    maxInflights: MOST_AT_ONCE,
    ...(tls === null ? {} : { tls: tls as NonNullable<ConnectionOptions['tls']> }),
    ...(sasl === null ? {} : { sasl: saslOf(sasl) }),
  }
}

const mechanisms = {
  plain: 'PLAIN',
  'scram-sha-256': 'SCRAM-SHA-256',
  'scram-sha-512': 'SCRAM-SHA-512',
} as const

function saslOf(sasl: SaslOptions): NonNullable<ConnectionOptions['sasl']> {
  if (sasl.mechanism !== 'oauthbearer') {
    const { mechanism, username, password } = sasl
    return { mechanism: mechanisms[mechanism], username, password }
  }
  const { token } = sasl
  const ask = async (): Promise<string> => {
    try {
      return await token()
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      const text = `the option sasl.token gave no token: ${why}`
      throw new HoldfastError('unavailable', text, { cause })
    }
  }
  return { mechanism: 'OAUTHBEARER', token: ask }
}
