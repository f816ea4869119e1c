import { compatibilityPartitioner } from '@platformatic/kafka'
import fc from 'fast-check'
import { Partitioners } from 'kafkajs'
import { describe, expect, it } from 'vitest'

import { partitionerOf } from '../../../adapters/kafka/partitioner.ts'

const keys = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.string({ maxLength: 20, unit: 'binary' }).map((text) => Buffer.from(text)),
)

function asKafkajs(make: () => unknown, key: Uint8Array, partitions: number): number {
  const partitioner = make() as (given: object) => number
  const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
    partitionId,
    leader: 1,
  }))
  return partitioner({ topic: 't', partitionMetadata, message: { key: Buffer.from(key) } })
}

describe('the partition of a key', () => {
  it('is what the Java client computes', () => {
    // By org.apache.kafka.common.utils.Utils, toPositive(murmur2(key)) % n.
    const known = [
      ['21', -973932308],
      ['foobar', -790332482],
      ['a-little-bit-long-string', -985981536],
      ['a-little-bit-longer-string', -1486304829],
      ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
      ['abc', 479470107],
    ] as const
    for (const [key, hash] of known) {
      const expected = (hash & 0x7fffffff) % 1_000
      expect(partitionerOf('java')(Buffer.from(key), 1_000)).toBe(expected)
    }
  })

  it('is the same as through kafkajs, today and before 2.0', () => {
    fc.assert(
      fc.property(keys, fc.integer({ min: 1, max: 200 }), (key, partitions) => {
        const { DefaultPartitioner, LegacyPartitioner } = Partitioners
        expect(partitionerOf('java')(key, partitions)).toBe(
          asKafkajs(DefaultPartitioner, key, partitions),
        )
        expect(partitionerOf('legacy')(key, partitions)).toBe(
          asKafkajs(LegacyPartitioner, key, partitions),
        )
      }),
      { numRuns: 2_000 },
    )
  })

  it('is the same as through @platformatic/kafka, where it is compatible', () => {
    fc.assert(
      fc.property(keys, fc.integer({ min: 1, max: 200 }), (key, partitions) => {
        const theirs = compatibilityPartitioner({ topic: 't' }, Buffer.from(key)) % partitions
        expect(partitionerOf('java')(key, partitions)).toBe(theirs)
      }),
    )
  })

  it('is for the user to say', () => {
    const last = (_key: Uint8Array, partitions: number): number => partitions - 1
    expect(partitionerOf(last)(Buffer.from('k'), 7)).toBe(6)
  })
})
