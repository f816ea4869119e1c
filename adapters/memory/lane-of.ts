import type { Ordering } from '../../src/contract/capabilities.ts'
import type { Envelope } from '../../src/contract/message.ts'
import { orderKeyOf } from '../../src/contract/order-key.ts'

/** The envelope as a receiver sees it: with the lane that its ordering gives it. Copied only when that differs. */
export function laneOf(envelope: Envelope, ordering: Ordering, source: string): Envelope {
  if (ordering === 'key' && isTextOf(envelope.orderKey, envelope.key)) return envelope
  const orderKey = orderKeyOf(ordering, envelope.key, source)
  return orderKey === envelope.orderKey ? envelope : { ...envelope, orderKey }
}

/** True when both are nothing, or short ASCII and the same: the usual key, told without decoding. */
function isTextOf(text: string | null, bytes: Uint8Array | null): boolean {
  if (text === null || bytes === null) return text === bytes
  if (text.length !== bytes.length || bytes.length > 64) return false
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number
    if (byte > 127 || byte !== text.charCodeAt(index)) return false
  }
  return true
}
