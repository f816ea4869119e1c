import { isUtf8 } from 'node:buffer'

import type { Codec } from './codec.ts'
import { CodecError } from './errors.ts'
import { integerOption, refuseUnknownOptions } from './option.ts'

/** Options of `jsonCodec`. */
export interface JsonCodecOptions {
  /** Largest body read or written, in bytes. Default 16 MiB. */
  readonly maxBytes?: number
}

/** Nesting beyond this is refused: a cycle, or input made to exhaust the stack. */
const DEEPEST = 200

/**
 * JSON as strict as the promise needs: what JSON would drop or change without a word (undefined,
 * NaN, bigint, dates, maps, functions, instances of classes) is refused on writing; invalid UTF-8, a byte order mark,
 * `__proto__` keys and bodies over the limit are refused on reading. As in JSON, -0 is written as 0, and
 * keys that are symbols are not written.
 */
export function jsonCodec(options: JsonCodecOptions = {}): Codec {
  refuseUnknownOptions('jsonCodec', options, ['maxBytes'])
  const maxBytes = integerOption('maxBytes', options.maxBytes, 16_777_216, { min: 1 })
  return Object.freeze({
    contentType: 'application/json',
    encode: (payload: unknown) => encode(payload, maxBytes),
    decode: (bytes: Uint8Array) => decode(bytes, maxBytes),
  })
}

function encode(payload: unknown, maxBytes: number): Uint8Array {
  const problem = unwritable(payload, 0)
  if (problem !== null) throw new CodecError(`JSON cannot carry the payload: ${problem}`)
  const bytes = Buffer.from(JSON.stringify(payload), 'utf8')
  if (bytes.length > maxBytes) throw tooLong(bytes.length, maxBytes)
  return bytes
}

function decode(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) throw tooLong(bytes.length, maxBytes)
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (!isUtf8(view)) throw new CodecError('the body is not valid UTF-8')
  const text = view.toString('utf8')
  const value = parse(text)
  // The escape test covers spellings such as "\u005f_proto__"; both tests are one scan each.
  if (text.includes('__proto__') || text.includes('\\u00')) refusePrototypeKeys(value)
  return value
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    // The engine's text quotes the payload, which must not reach logs.
    const position = /position \d+/.exec((cause as Error).message)?.[0] ?? 'its end'
    throw new CodecError(`the body is not JSON: unexpected input at ${position}`)
  }
}

function refusePrototypeKeys(value: unknown): void {
  const open: unknown[] = [value]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== 'object' || next === null) continue
    if (Object.hasOwn(next, '__proto__')) {
      throw new CodecError('the body has a "__proto__" key, which would change prototypes')
    }
    for (const child of Object.values(next)) {
      if (typeof child === 'object' && child !== null) open.push(child)
    }
  }
}

/** Why the value cannot be written without changing it, with its path; null when it can. */
function unwritable(value: unknown, depth: number): string | null {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return null
    case 'number':
      return Number.isFinite(value) ? null : `(root) is ${value}`
    case 'object':
      return value === null ? null : unwritableObject(value, depth)
    default:
      return `(root) is ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}`
  }
}

function unwritableObject(value: object, depth: number): string | null {
  if (depth > DEEPEST) return `(root) is nested deeper than ${DEEPEST} levels, or refers to itself`
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function')
    return `(root) is ${ownJson(value)}`
  if (Array.isArray(value)) return unwritableItems(value, depth)
  const special = specialKind(value)
  if (special !== null) return `(root) is ${special}`
  for (const name in value) {
    if (!Object.hasOwn(value, name)) continue
    if (name === '__proto__') return '(root) has a "__proto__" key, which nobody could read safely'
    const problem = unwritable((value as Record<string, unknown>)[name], depth + 1)
    if (problem !== null) return problem.replace('(root)', `(root).${name}`)
  }
  return null
}

function unwritableItems(items: readonly unknown[], depth: number): string | null {
  for (let index = 0; index < items.length; index++) {
    const problem = unwritable(items[index], depth + 1)
    if (problem !== null) return problem.replace('(root)', `(root)[${index}]`)
  }
  return null
}

function ownJson(value: object): string {
  if (value instanceof Date) return 'a Date: write it as text or number and say so in the schema'
  return 'an object with toJSON(), which writes something else'
}

function specialKind(value: object): string | null {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) return null
  if (value instanceof Map || value instanceof Set) return 'a Map or Set'
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return 'binary: use a binary codec'
  if (value instanceof Promise) return 'a promise: await it first'
  // The plain objects of another realm, such as a test runner's.
  if (Object.getPrototypeOf(prototype) === null && !isBuiltIn(value)) return null
  return `an instance of ${classOf(value)}, which JSON would write in part: publish a plain object`
}

/** What JSON writes as `{}` or as something else, whichever realm it is of. */
function isBuiltIn(value: object): boolean {
  return Object.prototype.toString.call(value) !== '[object Object]'
}

function classOf(value: object): string {
  const { constructor } = value
  return typeof constructor === 'function' && constructor.name !== '' ? constructor.name : 'a class'
}

function tooLong(length: number, maxBytes: number): CodecError {
  return new CodecError(`the body has ${length} bytes, the codec's maxBytes is ${maxBytes}`)
}
