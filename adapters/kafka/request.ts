import { checkCode } from './answer-error.ts'
import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import { encoded } from './cluster-node.ts'

/** A request of Kafka's protocol, in a version without tagged fields, and how its answer is read. */
export interface Request<Asked, Answer> {
  readonly key: number
  readonly version: number
  readonly name: string
  /** Writes the body; makes sure of room for lists of its own. */
  readonly encode: (writer: ByteWriter, asked: Asked) => void
  /** Throws an `AnswerError` for an error code, and a `RangeError` for what is no answer. */
  readonly decode: (reader: ByteReader) => Answer
}

/** As clients take a request that is not their own. */
export interface Exchange<Answer> {
  readonly request: {
    readonly apiKey: number
    readonly apiVersion: number
    readonly apiName: string
    readonly expectResponse: () => boolean
    readonly encode: () => Promise<{ readonly buffer: Buffer }>
  }
  readonly response: {
    /** An object in any case: kafkajs looks into it. */
    readonly decode: (body: Buffer) => Promise<{ readonly answer: Answer }>
    readonly parse: (decoded: { readonly answer: Answer }) => Promise<Answer>
  }
}

/** The request with what it asks, ready to be sent. */
export function exchangeOf<Asked, Answer>(
  request: Request<Asked, Answer>,
  asked: Asked,
): Exchange<Answer> {
  const { key, version, name, encode, decode } = request
  return {
    request: {
      apiKey: key,
      apiVersion: version,
      apiName: name,
      expectResponse: () => true,
      encode: async () => {
        const writer = new ByteWriter()
        encode(writer, asked)
        return encoded(writer.written)
      },
    },
    response: {
      decode: async (body) => ({ answer: decode(new ByteReader(body)) }),
      parse: async ({ answer }) => answer,
    },
  }
}

/** Room for the numbers behind a text or in front of a list. */
const ROOM = 128

/** Writes a list with its length in 32 bits. */
export function writeList<T>(
  writer: ByteWriter,
  list: readonly T[],
  write: (one: T) => void,
): void {
  writer.ensure(ROOM)
  writer.int32(list.length)
  for (const one of list) {
    writer.ensure(ROOM)
    write(one)
  }
}

/** A text, or its absence; there is room for some numbers behind it. */
export function writeText(writer: ByteWriter, text: string | null): void {
  if (text === null) writer.int16(-1)
  else writer.text16(text)
  writer.ensure(ROOM)
}

/** Bytes with their length in 32 bits. */
export function writeBytes(writer: ByteWriter, bytes: Uint8Array): void {
  writer.ensure(4 + bytes.length + ROOM)
  writer.int32(bytes.length)
  writer.raw(bytes)
}

/** An answer that says nothing but whether it was done; throws an `AnswerError` when it was not. */
export function readCode(reader: ByteReader): null {
  reader.int32()
  checkCode(reader.int16())
  return null
}
