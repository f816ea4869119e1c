import type { StandardSchemaV1 } from '@standard-schema/spec'

import type { Ordering } from './capabilities.ts'
import type { Codec } from './codec.ts'
import { OptionError } from './errors.ts'
import { jsonCodec } from './json-codec.ts'
import { checkedTopicName } from './names.ts'
import { checkMethod, choiceOption, functionOption, refuseUnknownOptions } from './option.ts'

/** What `topic()` takes beside the name. */
export interface TopicOptions<In, Out> {
  /** Any Standard Schema (zod, valibot, arktype …). Default: everything the codec can write is allowed. */
  readonly schema?: StandardSchemaV1<In, Out>
  /** What must stay in order, from the payload. Default: no key. */
  readonly key?: (payload: In) => string
  /** Default 'key' when there is a key, else 'none'. */
  readonly ordering?: Ordering
  /** Default `jsonCodec()`. */
  readonly codec?: Codec
  /** CloudEvents `type`. Default: the topic's name. */
  readonly type?: string
}

/** A named stream of typed messages; `In` is what publishers pass, `Out` what handlers get. */
export interface Topic<In = unknown, Out = In> {
  readonly name: string
  readonly type: string
  readonly ordering: Ordering
  readonly codec: Codec
  readonly schema: StandardSchemaV1<In, Out> | null
  readonly key: ((payload: In) => string) | null
}

/** The payload a handler of the topic gets. */
export type PayloadOf<T> = T extends Topic<infer _In, infer Out> ? Out : never

/** The payload a publisher of the topic passes. */
export type InputOf<T> = T extends Topic<infer In, infer _Out> ? In : never

const jsonByDefault = jsonCodec()
const allowedCodec = 'jsonCodec(…) or an object with encode(), decode() and contentType'

/**
 * Declares a topic. Throws an `OptionError` or an error with code `topic` for anything that is not
 * allowed; does no I/O.
 */
export function topic<In = unknown, Out = In>(
  name: string,
  options: TopicOptions<In, Out> = {},
): Topic<In, Out> {
  refuseUnknownOptions('topic', options, ['schema', 'key', 'ordering', 'codec', 'type'])
  const key = functionOption('key', options.key) ?? null
  const ordering = choiceOption('ordering', options.ordering, key === null ? 'none' : 'key', [
    'key',
    'partition',
    'none',
  ])
  if (ordering === 'key' && key === null) {
    throw new OptionError('ordering', 'key', "'key' needs the option key: (payload) => string")
  }
  return Object.freeze({
    name: checkedTopicName(name),
    type: checkedType(options.type) ?? name,
    ordering,
    codec: checkedCodec(options.codec) ?? jsonByDefault,
    schema: checkedSchema(options.schema),
    key,
  })
}

function checkedType(type: string | undefined): string | undefined {
  if (type === undefined || (typeof type === 'string' && type.length > 0)) return type
  throw new OptionError('type', type, 'a text that is not empty')
}

function checkedCodec(codec: Codec | undefined): Codec | undefined {
  if (codec === undefined) return undefined
  checkMethod('codec', codec, 'encode', allowedCodec)
  checkMethod('codec', codec, 'decode', allowedCodec)
  return codec
}

function checkedSchema<In, Out>(
  schema: StandardSchemaV1<In, Out> | undefined,
): StandardSchemaV1<In, Out> | null {
  if (schema === undefined) return null
  if (schema !== null && typeof schema['~standard']?.validate === 'function') return schema
  throw new OptionError('schema', schema, 'a Standard Schema (zod, valibot, arktype, …)')
}
