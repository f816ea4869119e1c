import { type } from 'arktype'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'

import { CodecError, HoldfastError, OptionError, SchemaError } from '../../src/contract/errors.ts'
import { NO_HEADERS } from '../../src/contract/message.ts'
import { topic, type Topic } from '../../src/contract/topic.ts'
import { UuidSource } from '../../src/contract/uuid.ts'
import { seal, type PublishOptions, type Sealing } from '../../src/send/seal.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const clock = new VirtualClock(1_700_000_000_000)
const sealing: Sealing = { source: 'shop', ids: new UuidSource(clock, seededRandom()), clock }
const orders = topic<{ customer: string }>('orders', { key: ({ customer }) => customer })
const plain = topic('notes')

function bytes(text: string): Uint8Array {
  return Buffer.from(text)
}

function fails(): never {
  throw new Error('bad day')
}
const standard = { version: 1, vendor: 'test' } as const

describe('seal', () => {
  it('makes the envelope that travels', () => {
    const sealed = seal(orders, { customer: 'c-9' }, { id: 'o-1' }, sealing)
    expect(sealed).toEqual({
      id: 'o-1',
      type: 'orders',
      producer: 'shop',
      to: { kind: 'topic', topic: 'orders' },
      key: bytes('c-9'),
      orderKey: 'c-9',
      body: bytes('{"customer":"c-9"}'),
      headers: NO_HEADERS,
      contentType: 'application/json',
      timeMs: 1_700_000_000_000,
      deliverAtMs: null,
    })
  })

  it('gives every message an id of its own', () => {
    const one = seal(plain, 1, undefined, sealing)
    const other = seal(plain, 1, undefined, sealing)
    expect(one.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(one.id).not.toBe(other.id)
  })

  it('orders by what the topic says', () => {
    const key = (): string => 'k'
    const orderKeyOf = (ordering: 'key' | 'partition' | 'none'): string | null =>
      seal(topic('t', { key, ordering }), 1, undefined, sealing).orderKey
    expect([orderKeyOf('key'), orderKeyOf('partition'), orderKeyOf('none')]).toEqual([
      'k',
      '',
      null,
    ])
    expect(seal(topic('t', { key, ordering: 'none' }), 1, undefined, sealing).key).toEqual(
      bytes('k'),
    )
  })

  it('prefers the key of the options', () => {
    expect(seal(orders, { customer: 'a' }, { key: 'b' }, sealing).orderKey).toBe('b')
  })

  it('takes headers as a record or as a list, in order and with duplicates', () => {
    const list = [
      ['a', '1'],
      ['a', null],
      ['b', bytes('2')],
    ] as const
    expect(seal(plain, 1, { headers: list }, sealing).headers).toEqual(list)
    expect(seal(plain, 1, { headers: { a: '1', b: null } }, sealing).headers).toEqual([
      ['a', '1'],
      ['b', null],
    ])
  })

  it('writes when it may be delivered and when it expires', () => {
    const sealed = seal(plain, 1, { deliverAt: 5, expiresAt: 9 }, sealing)
    expect(sealed.deliverAtMs).toBe(5)
    expect(sealed.headers).toEqual([['holdfast-expires-ms', '9']])
  })

  it('writes the trace context only when somebody supplies one and the message brings none', () => {
    const traced = { ...sealing, traceparent: () => '00-1-2-01' }
    expect(seal(plain, 1, undefined, sealing).headers).toBe(NO_HEADERS)
    expect(seal(plain, 1, undefined, traced).headers).toEqual([['traceparent', '00-1-2-01']])
    const own = { headers: { traceparent: 'mine' } }
    expect(seal(plain, 1, own, traced).headers).toEqual([['traceparent', 'mine']])
    expect(seal(plain, 1, undefined, { ...sealing, traceparent: () => undefined }).headers).toEqual(
      [],
    )
  })

  it('sends the payload as it is given, not as the schema turns it out', () => {
    const dated = topic('dated', {
      schema: z.object({ at: z.string().transform((at) => new Date(at)) }),
    })
    const sealed = seal(dated, { at: '2026-01-01' }, undefined, sealing)
    expect(Buffer.from(sealed.body ?? []).toString()).toBe('{"at":"2026-01-01"}')
  })

  it.each([
    ['zod', z.object({ lines: z.array(z.object({ cents: z.number() })) })],
    ['valibot', v.object({ lines: v.array(v.object({ cents: v.number() })) })],
    ['arktype', type({ lines: type({ cents: 'number' }).array() })],
  ] as const)('refuses what does not fit a schema of %s, naming the path', (_name, schema) => {
    const typed = topic<unknown, unknown>('typed', { schema })
    const call = (): unknown => seal(typed, { lines: [{ cents: 'x' }] }, undefined, sealing)
    expect(call).toThrow(SchemaError)
    expect(call).toThrow('payload does not fit the schema of topic "typed": lines.0.cents')
  })

  it('refuses a schema that validates asynchronously', () => {
    const slow = topic('slow', { schema: z.string().refine(async () => true) })
    expect(() => seal(slow, 'x', undefined, sealing)).toThrow('validates asynchronously')
  })

  it('refuses what the codec cannot write, naming topic and path', () => {
    const call = (): unknown => seal(plain, { at: new Date() }, undefined, sealing)
    expect(call).toThrow(CodecError)
    expect(call).toThrow('topic "notes": JSON cannot carry the payload: (root).at is a Date')
  })

  it('refuses a codec that does not write bytes', () => {
    const codec = { contentType: 'x', encode: () => 'text' as never, decode: () => null }
    expect(() => seal(topic('odd', { codec }), 1, undefined, sealing)).toThrow(
      'topic "odd": the codec returned "text" instead of bytes',
    )
  })

  it('refuses a key that is not a text', () => {
    expect(() => seal(orders, {} as { customer: string }, undefined, sealing)).toThrow(
      'key of topic "orders": got undefined; allowed: a text',
    )
  })

  it.each<[object, string]>([
    [{ id: '' }, 'publish.id: got ""'],
    [{ id: 'x'.repeat(256) }, 'publish.id: got "xxx'],
    [{ id: 7 }, 'publish.id: got 7'],
    [{ key: 7 }, 'key of topic "notes": got 7'],
    [{ deliverAt: 1.5 }, 'publish.deliverAt: got 1.5'],
    [{ deliverAt: new Date() }, 'publish.deliverAt: got an object'],
    [{ expiresAt: -1 }, 'publish.expiresAt: got -1'],
    [{ headers: 'a=b' }, 'publish.headers: got "a=b"'],
    [{ headers: { 'holdfast-attempt': '1' } }, 'publish.headers: got "holdfast-attempt"'],
    [{ headers: [['', '1']] }, 'publish.headers: got ""'],
    [{ headers: [5] }, 'publish.headers: got 5; allowed: [name, value]'],
    [{ headers: { a: 1 } }, 'publish.headers.a: got 1'],
    [{ hedaers: {} }, 'publish.hedaers: got an object'],
  ])('refuses options %o', (options, text) => {
    const call = (): unknown => seal(plain, 1, options as PublishOptions, sealing)
    expect(call).toThrow(OptionError)
    expect(call).toThrow(text)
  })

  it.each<['key' | 'schema', Topic<number, unknown>]>([
    ['key', topic('notes', { key: fails })],
    ['schema', topic('notes', { schema: { '~standard': { ...standard, validate: fails } } })],
  ])('says that the %s threw', (what, broken) => {
    const call = (): unknown => seal(broken, 1, undefined, sealing)
    expect(call).toThrow(HoldfastError)
    expect(call).toThrow(`the ${what} of topic "notes" threw: bad day`)
  })
})
