import { NO_HEADERS, type Headers, type HeaderValue } from '../../src/contract/message.ts'

/** Headers as amqplib takes and hands over: an AMQP table, which has no duplicates. */
export type Table = Record<string, unknown>

/** CloudEvents 1.0 over AMQP, binary mode: attributes are headers of these names. */
export const ATTRIBUTES = {
  specversion: 'cloudEvents_specversion',
  id: 'cloudEvents_id',
  type: 'cloudEvents_type',
  source: 'cloudEvents_source',
  time: 'cloudEvents_time',
  partitionkey: 'cloudEvents_partitionkey',
} as const

/** Says that the empty body is a tombstone. */
export const TOMBSTONE = 'holdfast-tombstone'
/** Tells messages without an id apart when the broker returns them. */
export const RETURN_MARK = 'holdfast-return'
/** Carries, as JSON text, the exact list of headers where a table would lose something of it. */
const EXACT = 'holdfast-headers'

/** Where each header stands when all are sorted by name: the broker sorts a table. */
const ORDER = 'holdfast-order'

/** CC and BCC are orders to the broker to send copies elsewhere, not headers. */
const ORDERS = ['CC', 'BCC'] as const
/** The other spelling of the CloudEvents prefix, which is only read. */
const OTHERWISE = {
  specversion: 'cloudEvents:specversion',
  id: 'cloudEvents:id',
  type: 'cloudEvents:type',
  source: 'cloudEvents:source',
  time: 'cloudEvents:time',
  partitionkey: 'cloudEvents:partitionkey',
} as const
const taken: ReadonlySet<string> = new Set([
  ...Object.values(ATTRIBUTES),
  ...Object.values(OTHERWISE),
  ...ORDERS,
  TOMBSTONE,
  RETURN_MARK,
  EXACT,
  ORDER,
])
/** What the broker writes about a message's life in a queue. Sent along, it would count for the next life. */
const brokerOwn = /^x-(?:death$|first-death-|last-death-|delivery-count$|acquired-count$)/

/** Longest name in a table, in bytes. */
const LONGEST_NAME = 255

/**
 * Writes headers into a table. `original` is the table they came from, if they did: values that are
 * neither text nor bytes keep their type on the way back to the broker.
 */
export function writeHeaders(headers: Headers, table: Table, original: Table | null): void {
  let isExact = true
  let isSorted = true
  let last = ''
  for (const [name, value] of headers) {
    if (isCarried(name) && !Object.hasOwn(table, name)) {
      table[name] = original === null ? bytesAsBuffer(value) : typed(name, value, original)
    } else isExact = false
    isSorted &&= last <= name
    last = name
  }
  if (!isExact) table[EXACT] = exactText(headers)
  else if (!isSorted) table[ORDER] = orderText(headers)
}

/** The headers of a received table: without attributes, the broker's own and ours about the transport. */
export function readHeaders(table: Table): Headers {
  const exact = table[EXACT]
  const list = typeof exact === 'string' ? exactHeaders(exact) : null
  if (list !== null) return list
  const sorted = Object.keys(table).filter(isCarried)
  if (sorted.length === 0) return NO_HEADERS
  sorted.sort()
  const headers = sorted.map((name) => [name, asHeaderValue(table[name])] as const)
  const order = table[ORDER]
  return typeof order === 'string' ? ordered(headers, order) : headers
}

/** An attribute under either spelling; `null` when there is none or it is no text. */
export function attributeOf(table: Table, name: keyof typeof ATTRIBUTES): string | null {
  const value = rawAttribute(table, name)
  return typeof value === 'string' ? value : null
}

/** The same, whatever its type. */
export function rawAttribute(table: Table, name: keyof typeof ATTRIBUTES): unknown {
  return table[ATTRIBUTES[name]] ?? table[OTHERWISE[name]]
}

/** Numbers as names would be put in order, and one name would set the table's prototype. */
function isCarried(name: string): boolean {
  // Most are ours.
  if (taken.has(name)) return false
  const first = name.charCodeAt(0)
  if ((first >= 48 && first <= 57) || name === '__proto__') return false
  if (name.length > 63 && Buffer.byteLength(name) > LONGEST_NAME) return false
  return !brokerOwn.test(name)
}

function typed(name: string, value: HeaderValue, original: Table): unknown {
  const raw = original[name]
  const isSame = typeof value === 'string' && typeof raw !== 'string' && raw !== undefined
  return isSame && asHeaderValue(raw) === value ? raw : bytesAsBuffer(value)
}

function bytesAsBuffer(value: HeaderValue): string | Buffer | null {
  if (value === null || typeof value === 'string' || Buffer.isBuffer(value)) return value
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
}

/** Numbers, truth values and tables of other producers become text. */
function asHeaderValue(raw: unknown): HeaderValue {
  if (typeof raw === 'string' || raw instanceof Uint8Array) return raw
  if (raw === null || raw === undefined) return null
  return JSON.stringify(raw)
}

/** The place of each header among the sorted. */
function orderText(headers: Headers): string {
  const sorted = headers.map(([name]) => name).sort()
  return headers.map(([name]) => sorted.indexOf(name)).join(',')
}

/** As they were sent; sorted when the text does not fit them: somebody added or took some. */
function ordered(sorted: Headers, order: string): Headers {
  const headers = order.split(',').map((place) => sorted[Number(place)])
  const isWhole = headers.length === sorted.length && new Set(headers).size === sorted.length
  return isWhole && !headers.includes(undefined) ? (headers as Headers) : sorted
}

/** Text is itself, bytes are an array with their base64, null is null. */
type Spelled = string | readonly [base64: string] | null

function exactText(headers: Headers): string {
  return JSON.stringify(headers.map(([name, value]) => [name, spelled(value)]))
}

/** `null` when the text is not what `exactText` writes: somebody else's, or damaged. */
function exactHeaders(text: string): Headers | null {
  try {
    const list = JSON.parse(text) as readonly (readonly [string, Spelled])[]
    return list.map(([name, value]) => {
      if (typeof name !== 'string') throw new TypeError('no name')
      return [name, read(value)] as const
    })
  } catch {
    return null
  }
}

function spelled(value: HeaderValue): Spelled {
  return value instanceof Uint8Array ? [Buffer.from(value).toString('base64')] : value
}

function read(value: Spelled): HeaderValue {
  return value === null || typeof value === 'string' ? value : Buffer.from(value[0], 'base64')
}
