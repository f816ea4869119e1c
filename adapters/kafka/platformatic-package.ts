import type { Connection, ConnectionOptions } from '@platformatic/kafka'

import { CapabilityError, HoldfastError } from '../../src/contract/errors.ts'

/** What a request is handed over in. */
export interface PlatformaticWriter {
  append(bytes: Buffer): unknown
}

/** The part of the package that is used: its connections. */
export interface Platformatic {
  readonly Connection: new (clientId?: string, options?: ConnectionOptions) => Connection
  readonly Writer: { create(): PlatformaticWriter }
  readonly clientSoftwareVersion: string
}

/** Before that, numbers of idempotent batches were given out twice; what it is like from 3 on nobody knows. */
const LEAST_VERSION = [2, 12, 1] as const
const NEXT_MAJOR = 3
/** As the package itself says. */
const LEAST_NODE = [22, 22, 0] as const

/**
 * Loads @platformatic/kafka. Rejects with a `CapabilityError` on a Node it is not made for and for
 * versions that are not known to be safe, and with code `missing-package` when it is not installed.
 */
export async function loadPlatformatic(
  load: () => Promise<unknown> = () => import('@platformatic/kafka'),
  node: string = process.versions.node,
): Promise<Platformatic> {
  if (!isAtLeast(node, LEAST_NODE)) {
    const text = `driver 'platformatic': @platformatic/kafka needs Node ${LEAST_NODE.join('.')} or later, and this is ${node}: use a later Node, or the driver 'kafkajs'`
    throw new CapabilityError(text)
  }
  const loaded = (await load().catch(refuseMissing)) as Partial<Platformatic>
  const version = loaded.clientSoftwareVersion ?? 'unknown'
  const isKnown = isAtLeast(version, LEAST_VERSION) && Number.parseInt(version, 10) < NEXT_MAJOR
  if (isKnown && typeof loaded.Connection === 'function' && loaded.Writer !== undefined) {
    return loaded as Platformatic
  }
  const text = `driver 'platformatic': @platformatic/kafka has to be ${LEAST_VERSION.join('.')} or later and before ${NEXT_MAJOR}.0.0, and this is ${version}: npm install @platformatic/kafka@^${LEAST_VERSION.join('.')}`
  throw new CapabilityError(text)
}

function refuseMissing(cause: unknown): never {
  const text =
    "driver 'platformatic' needs the package @platformatic/kafka: npm install @platformatic/kafka@^2.12.1"
  throw new HoldfastError('missing-package', text, { cause })
}

function isAtLeast(version: string, least: readonly number[]): boolean {
  const numbers = version.split('.').map((part) => Number.parseInt(part, 10))
  for (const [index, wanted] of least.entries()) {
    const number = numbers[index] ?? Number.NaN
    if (number !== wanted) return number > wanted
  }
  return true
}
