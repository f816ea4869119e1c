import { runInNewContext } from 'node:vm'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { CodecError } from '../../src/contract/errors.ts'
import { jsonCodec } from '../../src/contract/json-codec.ts'

const codec = jsonCodec()
const bytes = (text: string): Uint8Array => Buffer.from(text, 'utf8')

class Secretive {
  readonly #cents = 42
  get cents(): number {
    return this.#cents
  }
}

describe('jsonCodec', () => {
  it('gives back what it wrote', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }), (value) => {
        if (JSON.stringify(value).includes('__proto__')) return
        // JSON has no negative zero; every number is equal to what was written.
        expect(JSON.stringify(codec.decode(codec.encode(value)))).toBe(JSON.stringify(value))
      }),
    )
  })

  it.each([
    ['undefined', undefined, '(root) is undefined'],
    ['an undefined property', { a: { b: undefined } }, '(root).a.b is undefined'],
    ['a hole', { list: [1, , 3] }, '(root).list[1] is undefined'], // eslint-disable-line no-sparse-arrays
    ['NaN', { x: [0, NaN] }, '(root).x[1] is NaN'],
    ['Infinity', Infinity, '(root) is Infinity'],
    ['a bigint', { n: 1n }, '(root).n is a bigint'],
    ['a date', { at: new Date(0) }, '(root).at is a Date'],
    ['a map', new Map(), '(root) is a Map or Set'],
    ['a function', { f: () => 1 }, '(root).f is a function'],
    ['a symbol', { s: Symbol('x') }, '(root).s is a symbol'],
    ['binary', { b: new Uint8Array(2) }, '(root).b is binary'],
    ['toJSON', { toJSON: () => 1 }, 'toJSON()'],
    ['a list with toJSON', Object.assign([1], { toJSON: () => 2 }), 'toJSON()'],
    ['a forgotten await', { order: Promise.resolve(1) }, '(root).order is a promise'],
    ['an error', { e: new Error('x') }, '(root).e is an instance of Error'],
    ['a pattern', { p: /x/ }, '(root).p is an instance of RegExp'],
    ['a boxed text', { t: Object('x') as unknown }, '(root).t is an instance of String'],
    ['a weak map', new WeakMap(), '(root) is an instance of WeakMap'],
    ['a private field', new Secretive(), '(root) is an instance of Secretive'],
    ['a __proto__ key', JSON.parse('{"a":{"__proto__":{}}}'), '(root).a has a "__proto__" key'],
  ])('refuses %s and names the path', (_name, payload, text) => {
    expect(() => codec.encode(payload)).toThrow(CodecError)
    expect(() => codec.encode(payload)).toThrow(text)
  })

  it('writes the plain objects of another realm', () => {
    const foreign: unknown = runInNewContext('({ list: [{ n: 1 }] })')
    expect(codec.decode(codec.encode(foreign))).toEqual({ list: [{ n: 1 }] })
  })

  it('refuses a value that refers to itself', () => {
    const loop: { self?: unknown } = {}
    loop.self = loop
    expect(() => codec.encode(loop)).toThrow('refers to itself')
  })

  it.each([
    ['invalid UTF-8', Uint8Array.of(0x22, 0xff, 0x22), 'not valid UTF-8'],
    ['a byte order mark', Uint8Array.of(0xef, 0xbb, 0xbf, 0x31), 'not JSON'],
    ['an empty body', new Uint8Array(0), 'not JSON'],
    ['a cut body', bytes('{"a":1'), 'not JSON'],
    ['a __proto__ key', bytes('{"a":[{"__proto__":{"admin":true}}]}'), '__proto__'],
    ['an escaped __proto__ key', bytes('{"\\u005f_proto__":{}}'), '__proto__'],
  ])('refuses to read %s', (_name, body, text) => {
    expect(() => codec.decode(body)).toThrow(CodecError)
    expect(() => codec.decode(body)).toThrow(text)
  })

  it('does not put the payload into the error', () => {
    expect(() => codec.decode(bytes('{"card":"4111 1111" oops'))).toThrow(/^(?!.*4111)/)
  })

  it('holds both directions to maxBytes', () => {
    const small = jsonCodec({ maxBytes: 10 })
    expect(() => small.encode('123456789')).toThrow('has 11 bytes')
    expect(() => small.decode(bytes('"123456789"'))).toThrow('maxBytes is 10')
  })
})
