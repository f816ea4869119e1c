import { isUtf8 } from 'node:buffer'

import { LONGEST_LINE, type Line } from './read-lines.ts'
import { orderSchema, type Order } from './orders.ts'

/** Which fields of the input's objects an order is made from; dots go into objects. */
export interface Fields {
  readonly id: string
  readonly key: string
  readonly amount: string
}

/** What a line turned out to be. */
export type ParsedLine =
  | { readonly kind: 'order'; readonly order: Order }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'blank' }

/** What a line turned out to be, before its fields are looked at. */
export type ParsedObject =
  | { readonly kind: 'object'; readonly value: object }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'blank' }

/** Makes an order from a line; never throws. */
export function parseOrder(line: Line, fields: Fields): ParsedLine {
  const parsed = parseObject(line)
  if (parsed.kind !== 'object') return parsed
  const checked = orderSchema.safeParse({
    id: nameFrom(valueAt(parsed.value, fields.id)),
    customer: nameFrom(valueAt(parsed.value, fields.key)),
    amount: numberFrom(valueAt(parsed.value, fields.amount)),
    line: line.number,
  })
  if (checked.success) return { kind: 'order', order: checked.data }
  const [issue] = checked.error.issues
  const property = String(issue?.path[0] ?? 'id')
  const field = property === 'customer' ? fields.key : fields[property as 'id' | 'amount']
  const problem = isInexact(valueAt(parsed.value, field))
    ? 'a number too large to be read exactly; write it as a text'
    : (issue?.message ?? 'invalid')
  return { kind: 'rejected', reason: `field "${field}": ${problem}` }
}

/** Reads the object of a line; never throws. */
export function parseObject({ bytes }: Line): ParsedObject {
  if (bytes === null) return { kind: 'rejected', reason: `longer than ${LONGEST_LINE} bytes` }
  if (!isUtf8(bytes)) return { kind: 'rejected', reason: 'not valid UTF-8' }
  const text = bytes.toString('utf8').trim()
  if (text === '') return { kind: 'blank' }
  const value = parseJson(text)
  if (value === undefined) return { kind: 'rejected', reason: 'not JSON' }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { kind: 'rejected', reason: 'JSON, but not an object' }
  }
  return { kind: 'object', value }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** The value of a field: its whole name first, then, at dots, into objects. */
export function valueAt(object: object, field: string): unknown {
  if (Object.hasOwn(object, field)) return (object as Record<string, unknown>)[field]
  for (let dot = field.indexOf('.'); dot >= 0; dot = field.indexOf('.', dot + 1)) {
    const head = field.slice(0, dot)
    if (!Object.hasOwn(object, head)) continue
    const inner = (object as Record<string, unknown>)[head]
    if (typeof inner !== 'object' || inner === null) continue
    const found = valueAt(inner, field.slice(dot + 1))
    if (found !== undefined) return found
  }
  return undefined
}

/** Ids and keys may be numbers. */
function nameFrom(value: unknown): unknown {
  return typeof value === 'number' && !isInexact(value) ? String(value) : value
}

/** A whole number that JavaScript cannot hold exactly: it would be taken for its neighbour. */
function isInexact(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)
}

function numberFrom(value: unknown): unknown {
  const isText =
    typeof value === 'string' && /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(value)
  return isText ? Number(value) : value
}
