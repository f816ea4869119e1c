import { createReadStream, createWriteStream } from 'node:fs'
import { access, constants, stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import type { GivenFields } from './options.ts'
import { parseObject, parseOrder, valueAt, type Fields } from './parse-order.ts'
import { readLines, type Line } from './read-lines.ts'
import { UsageError } from './usage.ts'

/** What a first look at the input says. */
export interface Input {
  readonly path: string
  /** Bytes at the moment of looking; a file that grows is read up to here. */
  readonly bytes: number
  readonly fields: Fields
  /** Ids of the orders among the lines looked at. */
  readonly sampledIds: readonly string[]
  /** Orders in all: counted when every line was looked at, else estimated. */
  readonly orders: number
}

/** Lines that are looked at before anything starts. */
const LINES_LOOKED_AT = 5_000
const BYTES_LOOKED_AT = 16_777_216

const usualNames = {
  id: ['id', 'orderId', 'order_id', 'uuid', '_id', 'number'],
  key: [
    'customer',
    'customerId',
    'customer_id',
    'customer.id',
    'user',
    'userId',
    'user_id',
    'account',
  ],
  amount: ['amount', 'cents', 'total', 'price', 'value', 'sum'],
} as const

/** A path that can be read from any offset, again and again: a stream is copied to `copy` first. */
export async function seekableInput(
  input: string,
  copy: string,
  signal: AbortSignal,
): Promise<string> {
  if (input === '-') return spooled(process.stdin, copy, signal)
  const kind = await kindOf(input)
  return kind === 'file' ? input : spooled(createReadStream(input), copy, signal)
}

async function kindOf(path: string): Promise<'file' | 'stream'> {
  try {
    const found = await stat(path)
    if (found.isDirectory()) throw new UsageError(`--input ${path} is a folder; give a file`)
    await access(path, constants.R_OK)
    return found.isFile() ? 'file' : 'stream'
  } catch (error) {
    if (error instanceof UsageError) throw error
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`
    throw new UsageError(`--input ${path} ${why}`, { cause: error })
  }
}

async function spooled(stream: Readable, copy: string, signal: AbortSignal): Promise<string> {
  try {
    await pipeline(stream, createWriteStream(copy), { signal })
  } catch (error) {
    if (!signal.aborted) throw error
    throw new UsageError('the input did not come to its end in time', { cause: error })
  }
  return copy
}

/** Looks at the first lines; throws a `UsageError` when the fields that make an order are not there. */
export async function lookAt(path: string, given: GivenFields): Promise<Input> {
  const bytes = (await stat(path)).size
  const fields = chosenFields(await firstObjects(path, bytes), given, path)
  const ids = new Set<string>()
  let end = 0
  for await (const line of firstLines(path, bytes)) {
    const parsed = parseOrder(line, fields)
    if (parsed.kind === 'order') ids.add(parsed.order.id)
    end = line.end
  }
  const orders = end === 0 ? 0 : Math.round((ids.size * bytes) / end)
  return { path, bytes, fields, sampledIds: [...ids], orders }
}

async function* firstLines(path: string, bytes: number): AsyncGenerator<Line> {
  for await (const line of readLines(path, { from: 0, to: bytes, linesBefore: 0 })) {
    yield line
    if (line.number >= LINES_LOOKED_AT || line.end >= BYTES_LOOKED_AT) return
  }
}

async function firstObjects(path: string, bytes: number): Promise<readonly object[]> {
  const objects: object[] = []
  for await (const line of firstLines(path, bytes)) {
    const parsed = parseObject(line)
    if (parsed.kind === 'object') objects.push(parsed.value)
  }
  return objects
}

function chosenFields(objects: readonly object[], given: GivenFields, path: string): Fields {
  const choose = (what: keyof GivenFields): string => {
    const candidates = given[what] === null ? usualNames[what] : [given[what]]
    const found = candidates.find((name) => objects.some((one) => valueAt(one, name) !== undefined))
    // Without any object there is nothing to say about fields: every line will be rejected.
    if (found === undefined && objects.length > 0) throw missing(what, candidates, objects, path)
    return found ?? candidates[0] ?? what
  }
  return { id: choose('id'), key: choose('key'), amount: choose('amount') }
}

function missing(
  what: keyof GivenFields,
  candidates: readonly string[],
  objects: readonly object[],
  path: string,
): UsageError {
  const names = candidates.map((name) => `"${name}"`).join(', ')
  const inThem = `none of the first ${objects.length} objects of ${path} has a field ${names}`
  return new UsageError(`${inThem}\n  name one with --${what}; they have: ${present(objects)}`)
}

/** Names of the fields that hold a text or a number, at most 30 of them. */
function present(objects: readonly object[]): string {
  const names = new Set<string>()
  for (const object of objects.slice(0, 20)) addNames(object, '', names, 3)
  const shown = [...names].slice(0, 30).join(', ')
  return names.size > 30 ? `${shown}, …` : shown || 'no fields'
}

function addNames(object: object, prefix: string, names: Set<string>, levels: number): void {
  for (const [name, value] of Object.entries(object)) {
    if (typeof value === 'string' || typeof value === 'number') names.add(prefix + name)
    else if (typeof value === 'object' && value !== null && levels > 1) {
      addNames(value as object, `${prefix}${name}.`, names, levels - 1)
    }
  }
}
