import { describe, expect, it } from 'vitest'

import { orderKeyOf } from '../../src/contract/order-key.ts'
import { murmur2, partitionOf } from '../../src/contract/partition.ts'

/** The vectors of Kafka's own UtilsTest.testMurmur2, as signed numbers. */
const vectors: readonly (readonly [string, number])[] = [
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ['abc', 479470107],
]

describe('murmur2', () => {
  it.each(vectors)('hashes %j as the Java client does', (text, hash) => {
    expect(murmur2(Buffer.from(text)) | 0).toBe(hash)
  })

  it('drops the sign before it chooses a partition', () => {
    expect(partitionOf(Buffer.from('21'), 10)).toBe((-973932308 & 0x7fffffff) % 10)
  })
})

describe('orderKeyOf', () => {
  it('keeps keys apart that are not UTF-8', () => {
    const broken = orderKeyOf('key', Uint8Array.of(0xff), 's')
    const other = orderKeyOf('key', Uint8Array.of(0xfe), 's')
    const text = orderKeyOf('key', Buffer.from('\uFFFD'), 's')
    expect(new Set([broken, other, text]).size).toBe(3)
  })

  it('follows the ordering', () => {
    const key = Buffer.from('k')
    expect(orderKeyOf('key', key, 's')).toBe('k')
    expect(orderKeyOf('key', new Uint8Array(0), 's')).toBe('')
    expect(orderKeyOf('key', null, 's')).toBeNull()
    expect(orderKeyOf('partition', key, 's')).toBe('s')
    expect(orderKeyOf('none', key, 's')).toBeNull()
  })
})
