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
  if (headers.length === 0 || fits(headers, able)) return envelope
  const plain = new Map<string, HeaderValue>()
  for (const [name, value] of headers) if (carries(value, able)) plain.set(name, value)
  const exact = JSON.stringify(headers.map(([name, value]) => [name, spelled(value)]))
  return { ...envelope, headers: [...plain, [CARRIER, exact]] }
}

/** The envelope with the headers it was sent with. */
export function fromWire(envelope: Envelope): Envelope {
  const carrier = envelope.headers.find(([name]) => name === CARRIER)?.[1]
  if (typeof carrier !== 'string') return envelope
  const exact = JSON.parse(carrier) as readonly [string, Spelled][]
  return { ...envelope, headers: exact.map(([name, value]) => [name, read(value)]) }
}

function fits(headers: Headers, able: Able): boolean {
  const names = new Set(headers.map(([name]) => name))
  if (!able.duplicate && names.size < headers.length) return false
  return headers.every(([, value]) => carries(value, able))
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
