import type { ConnectionOptions } from '@platformatic/kafka'

import type { BrokerContext } from '../../src/contract/broker.ts'
import type { Random } from '../../src/contract/clock.ts'
import { HoldfastError } from '../../src/contract/errors.ts'
import type { DriverCaps, KafkaDriver } from './driver.ts'
import { driverOn } from './client-driver.ts'
import type { Resolved } from './options.ts'
import { PlatformaticClusters } from './platformatic-cluster.ts'
import { REFUSED_LOGIN } from './platformatic-trouble.ts'
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

/** What a client is made from. */
type PlatformaticOptions = Pick<
  Resolved,
  | 'addresses'
  | 'clientId'
  | 'tls'
  | 'sasl'
  | 'connectTimeoutMs'
  | 'requestTimeoutMs'
  | 'rebalanceTimeoutMs'
>

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
  const client = await platformaticClient(options, context.random, load)
  return driverOn({ name: 'platformatic', caps: CAPS, client }, options, context)
}

/** Clusters with these settings. Rejects like the driver. Does no I/O. */
export async function platformaticClient(
  settings: PlatformaticOptions,
  random: Random,
  load: () => Promise<Platformatic> = loadPlatformatic,
): Promise<PlatformaticClusters> {
  const { addresses, clientId } = settings
  const library = await load()
  const options = connectionOptions(settings)
  return new PlatformaticClusters({ library, clientId, addresses, random, options })
}

function connectionOptions(settings: PlatformaticOptions): ConnectionOptions {
  const { tls, sasl, connectTimeoutMs, requestTimeoutMs, rebalanceTimeoutMs } = settings
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
  // Without it a refused token counts as a log-in, and the next request fails for no reason.
  const authBytesValidator: NonNullable<ConnectionOptions['sasl']>['authBytesValidator'] = (
    bytes,
    done,
  ) => {
    if (bytes.length === 0) return done(null, bytes)
    const cause = new Error(`the broker refused the token: ${bytes.toString('utf8')}`)
    done(Object.assign(cause, { code: REFUSED_LOGIN }))
  }
  return { mechanism: 'OAUTHBEARER', token: ask, authBytesValidator }
}
