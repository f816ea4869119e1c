import type { Capabilities } from '../../src/contract/capabilities.ts'
import type { Envelope, Headers, HeaderValue } from '../../src/contract/message.ts'

/** Carries the headers that a broker without duplicates, bytes or null cannot, as JSON text. */
const CARRIER = 'holdfast-memory-headers'

type Able = Capabilities['headers']

/**
 * The envelope as it is stored where headers have limits: one text per name, and the exact list in a
 * header of its own when that would lose something. The same object when nothing would be lost.
 */
export function toWire(envelope: Envelope, able: Able): Envelope {
  const { headers } = envelope
  const kept = keptBy(able, headers)
  if (kept.length === headers.length) return envelope
  const exact = JSON.stringify(headers.map(([name, value]) => [name, spelled(value)]))
  return { ...envelope, headers: [...kept, [CARRIER, exact]] }
}

/** The envelope with the headers it was sent with. */
export function fromWire(envelope: Envelope): Envelope {
  const carrier = envelope.headers.find(([name]) => name === CARRIER)?.[1]
  if (typeof carrier !== 'string') return envelope
  const exact = JSON.parse(carrier) as readonly [string, Spelled][]
  return { ...envelope, headers: exact.map(([name, value]) => [name, read(value)]) }
}

/** What such a broker would keep of them: the last of a name, values that it has a type for. */
function keptBy(able: Able, headers: Headers): Headers {
  const carried = headers.filter(([, value]) => carries(value, able))
  return able.duplicate ? carried : [...new Map(carried)]
}

function carries(value: HeaderValue, able: Able): boolean {
  if (value === null) return able.null
  return typeof value === 'string' || able.binary
}

/** Text is itself, bytes are an array with their base64, null is null. */
type Spelled = string | readonly [base64: string] | null

function spelled(value: HeaderValue): Spelled {
  return value instanceof Uint8Array ? [Buffer.from(value).toString('base64')] : value
}

function read(value: Spelled): HeaderValue {
  return value === null || typeof value === 'string' ? value : Buffer.from(value[0], 'base64')
}
