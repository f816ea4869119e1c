import { createHash } from 'node:crypto'

import type { Envelope } from '../contract/message.ts'

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
/** Longest identity every inbox has room for. */
const LONGEST = 255

/**
 * What tells a message from all others of its topic: a UUID by itself; any other id together with
 * its producer, as CloudEvents defines it, since two producers may both count from 1. `null`: it has none.
 */
export function identityOf({ id, producer }: Envelope): string | null {
  if (id === null || id === '') return null
  if (producer === null || uuidPattern.test(id)) return fitting(id)
  return fitting(`${producer}#${id}`)
}

/** Kept as it is where it fits, else replaced by its hash. */
export function fitting(identity: string): string {
  if (identity.length <= LONGEST) return identity
  return `sha256:${createHash('sha256').update(identity).digest('hex')}`
}

/**
 * The id of the `index`-th message that handling this one publishes: a UUID version 8 made from the
 * consumer, the message and the index, so that handling it again publishes the same ids.
 */
export function derivedId(consumer: string, id: string, index: number): string {
  const bytes = createHash('sha1').update(`${consumer}\u0000${id}\u0000${index}`).digest()
  bytes[6] = 0x80 | ((bytes[6] as number) & 0x0f)
  bytes[8] = 0x80 | ((bytes[8] as number) & 0x3f)
  const hex = bytes.toString('hex', 0, 16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
