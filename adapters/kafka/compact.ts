import type { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'

/*
 * Kafka's newer versions of requests: lengths are varints and one too high, and everything that may grow
 * ends with tagged fields, of which none is written here and all are passed over.
 */

/** Longest varint of 32 bits, and what stands around a text. */
const ROOM = 32

/** No tagged fields. */
export function writeTags(writer: ByteWriter): void {
  writer.ensure(ROOM)
  writer.int8(0)
}

/** A text, or its absence; there is room for some numbers behind it. */
export function writeCompact(writer: ByteWriter, text: string | null): void {
  const bytes = text === null ? null : Buffer.from(text)
  writer.ensure(2 * ROOM + (bytes?.length ?? 0))
  writeVarint(writer, bytes === null ? 0 : bytes.length + 1)
  if (bytes !== null) writer.raw(bytes)
}

/** A list of things each of which ends with tagged fields. */
export function writeCompactList<T>(
  writer: ByteWriter,
  list: readonly T[],
  write: (one: T) => void,
): void {
  writer.ensure(ROOM)
  writeVarint(writer, list.length + 1)
  for (const one of list) {
    writer.ensure(2 * ROOM)
    write(one)
    writeTags(writer)
  }
}

/** A list of plain numbers, which have no tagged fields. */
export function writeCompactNumbers(writer: ByteWriter, numbers: readonly number[]): void {
  writer.ensure(ROOM + 4 * numbers.length)
  writeVarint(writer, numbers.length + 1)
  for (const number of numbers) writer.int32(number)
}

/** Passes over the tagged fields that end something. */
export function skipTags(reader: ByteReader): void {
  for (let left = readVarint(reader); left > 0; left--) {
    readVarint(reader)
    reader.view(readVarint(reader))
  }
}

/** A text; `null`: none. */
export function readCompact(reader: ByteReader): string | null {
  const length = readVarint(reader) - 1
  return length < 0 ? null : reader.view(length).toString('utf8')
}

/** A list of things each of which ends with tagged fields. */
export function readCompactList<T>(reader: ByteReader, read: (reader: ByteReader) => T): T[] {
  const list: T[] = []
  for (let left = readVarint(reader) - 1; left > 0; left--) {
    list.push(read(reader))
    skipTags(reader)
  }
  return list
}

function writeVarint(writer: ByteWriter, value: number): void {
  let left = value
  for (; left > 0x7f; left >>>= 7) writer.int8((left & 0x7f) | 0x80)
  writer.int8(left)
}

function readVarint(reader: ByteReader): number {
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = reader.int8() & 0xff
    value += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) break
  }
  return value
}
