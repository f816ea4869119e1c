import { type } from 'arktype'
import * as v from 'valibot'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'

import { type InputOf, type PayloadOf, topic } from '../../src/contract/topic.ts'

describe('topic', () => {
  it('orders by key when it has one', () => {
    expect(topic('orders', { key: (order: { id: string }) => order.id }).ordering).toBe('key')
    expect(topic('orders').ordering).toBe('none')
  })

  it('types payloads from zod, valibot and arktype', () => {
    const fromZod = topic('a', { schema: z.object({ n: z.string().transform(Number) }) })
    expectTypeOf<InputOf<typeof fromZod>>().toEqualTypeOf<{ n: string }>()
    expectTypeOf<PayloadOf<typeof fromZod>>().toEqualTypeOf<{ n: number }>()
    const fromValibot = topic('b', { schema: v.object({ n: v.number() }) })
    expectTypeOf<PayloadOf<typeof fromValibot>>().toEqualTypeOf<{ n: number }>()
    const fromArktype = topic('c', { schema: type({ n: 'number' }), key: (x) => String(x.n) })
    expectTypeOf<PayloadOf<typeof fromArktype>>().toEqualTypeOf<{ n: number }>()
  })

  it.each([
    ['an unknown option', () => topic('a', { scheme: 1 } as object), /topic\.scheme/],
    [
      'a key order without key',
      () => topic('a', { ordering: 'key' }),
      /ordering.*needs the option key/,
    ],
    [
      'an unknown ordering',
      () => topic('a', { ordering: 'fifo' as 'key' }),
      /'key', 'partition', 'none'/,
    ],
    [
      'options that are none',
      () => topic('a', null as never),
      /topic: got null; allowed: an object/,
    ],
    ['a codec that is none', () => topic('a', { codec: {} as never }), /codec: got an object/],
    ['half a codec', () => topic('a', { codec: { encode: () => null } as never }), /codec: got/],
    ['a type that is no text', () => topic('a', { type: 5 as never }), /type: got 5/],
    ['a schema of no standard', () => topic('a', { schema: {} as never }), /Standard Schema/],
    ['a key that is no function', () => topic('a', { key: 'id' as never }), /allowed: a function/],
  ])('refuses %s', (_name, declare, text) => {
    expect(declare).toThrow(text)
  })
})
