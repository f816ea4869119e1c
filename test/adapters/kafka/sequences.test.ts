import { describe, expect, it } from 'vitest'

import type { KafkaRecord, Part } from '../../../adapters/kafka/driver.ts'
import { MOST_SEQUENCES, Sequences } from '../../../adapters/kafka/sequences.ts'

function part(partition: number, count: number, topic = 't'): Part {
  const records = { length: count } as unknown as readonly KafkaRecord[]
  return { topic, partition, records }
}

describe('the numbers of records', () => {
  it('follow each other in each partition, and none is given out twice', () => {
    const sequences = new Sequences()
    const taken = [
      sequences.take(part(0, 5)),
      sequences.take(part(1, 2)),
      sequences.take(part(0, 3)),
      sequences.take(part(0, 1, 'u')),
      sequences.take(part(0, 1)),
    ]
    expect(taken).toEqual([0, 0, 5, 0, 8])
  })

  it('are used up long before they would begin anew', () => {
    const sequences = new Sequences()
    sequences.take(part(0, MOST_SEQUENCES - 1))
    expect(sequences.isUsedUp).toBe(false)
    sequences.take(part(1, 10))
    expect(sequences.isUsedUp).toBe(false)
    sequences.take(part(0, 1))
    expect(sequences.isUsedUp).toBe(true)
    expect(MOST_SEQUENCES).toBeLessThan(2 ** 31 - 10_000)
  })
})
