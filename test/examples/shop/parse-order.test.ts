import { describe, expect, it } from 'vitest'

import { parseOrder, valueAt, type Fields } from '../../../examples/shop/parse-order.ts'

const fields: Fields = { id: 'id', key: 'customer', amount: 'amount' }

function parse(
  text: string | Buffer | null,
  named: Fields = fields,
): ReturnType<typeof parseOrder> {
  const bytes = text === null ? null : Buffer.from(text as string)
  return parseOrder({ number: 7, bytes, end: 0 }, named)
}

describe('parseOrder', () => {
  it('makes an order of an object, other fields left aside', () => {
    const line = '{"id":"o-1","customer":"c-1","amount":12.5,"items":[]}'
    const order = { id: 'o-1', customer: 'c-1', amount: 12.5, line: 7 }
    expect(parse(line)).toEqual({ kind: 'order', order })
  })

  it('takes ids and keys that are numbers, and amounts that are texts', () => {
    expect(parse('{"id":17,"customer":4.5,"amount":" 1e3 "}')).toEqual({
      kind: 'order',
      order: { id: '17', customer: '4.5', amount: 1_000, line: 7 },
    })
  })

  it('finds fields inside objects and lists', () => {
    const named = { id: 'meta.id', key: 'who.0.name', amount: 'sum' }
    const line = '{"meta":{"id":"a"},"who":[{"name":"b"}],"sum":0}'
    expect(parse(line, named)).toEqual({
      kind: 'order',
      order: { id: 'a', customer: 'b', amount: 0, line: 7 },
    })
  })

  it.each(['', '   ', '\t'])('takes %j for blank', (text) => {
    expect(parse(text)).toEqual({ kind: 'blank' })
  })

  it.each([
    ['not JSON', 'not json'],
    ['not JSON', '{"id":"o-1"'],
    ['JSON, but not an object', '[1]'],
    ['JSON, but not an object', 'null'],
    ['JSON, but not an object', '"text"'],
    ['not JSON', '['.repeat(200_000)],
    ['field "id": ', '{"customer":"c","amount":1}'],
    ['field "id": ', '{"id":"","customer":"c","amount":1}'],
    ['field "id": ', '{"id":{},"customer":"c","amount":1}'],
    ['field "id": ', `{"id":"${'x'.repeat(201)}","customer":"c","amount":1}`],
    ['field "id": control characters', '{"id":"a\\u0000b","customer":"c","amount":1}'],
    ['field "customer": control characters and half', '{"id":"a","customer":"\\ud800","amount":1}'],
    ['field "id": a number too large', '{"id":9007199254740993,"customer":"c","amount":1}'],
    ['field "customer": ', '{"id":"a","customer":null,"amount":1}'],
    ['field "amount": ', '{"id":"a","customer":"c","amount":-1}'],
    ['field "amount": ', '{"id":"a","customer":"c","amount":"12 EUR"}'],
    ['field "amount": ', '{"id":"a","customer":"c","amount":1e999}'],
    ['field "amount": ', '{"id":"a","customer":"c"}'],
  ])('rejects a line, saying: %s', (reason, text) => {
    const parsed = parse(text)
    expect(parsed).toMatchObject({ kind: 'rejected' })
    expect((parsed as { reason: string }).reason).toContain(reason)
  })

  it('rejects a line that was too long to keep, and one that is not UTF-8', () => {
    expect(parse(null)).toEqual({ kind: 'rejected', reason: 'longer than 1048576 bytes' })
    const broken = Buffer.concat([Buffer.from('{"id":"'), Buffer.from([0xff]), Buffer.from('"}')])
    expect(parse(broken)).toEqual({ kind: 'rejected', reason: 'not valid UTF-8' })
  })
})

describe('valueAt', () => {
  it('prefers a field whose own name has the dot', () => {
    expect(valueAt({ 'a.b': 1, a: { b: 2 } }, 'a.b')).toBe(1)
    expect(valueAt({ 'a.b': { c: 3 }, a: {} }, 'a.b.c')).toBe(3)
  })

  it('sees own fields only', () => {
    expect(valueAt({}, 'constructor')).toBeUndefined()
    expect(valueAt({ a: {} }, 'a.__proto__.toString')).toBeUndefined()
    expect(valueAt({ a: null }, 'a.b')).toBeUndefined()
  })
})
