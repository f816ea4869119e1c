import { describe, expect, it } from 'vitest'

import { memberName, priorityOf } from '../../../adapters/rabbitmq/priority.ts'
import { seededRandom } from '../../support/seeded-random.ts'

const queues = Array.from({ length: 240 }, (_, n) => `orders.billing.${n}`)

function members(count: number): readonly string[] {
  const random = seededRandom(7)
  return Array.from({ length: count }, () => memberName(random))
}

/** Who has the highest priority on each queue. */
function owners(all: readonly string[]): readonly string[] {
  return queues.map((queue) => {
    const sorted = all.toSorted((one, other) => priorityOf(queue, other) - priorityOf(queue, one))
    return sorted[0]!
  })
}

describe('consumer priorities', () => {
  it('are what AMQP writes as a positive 32-bit number', () => {
    for (const queue of queues) {
      const priority = priorityOf(queue, 'm')
      expect(Number.isInteger(priority) && priority >= 0 && priority < 2 ** 31).toBe(true)
    }
  })

  it('spread the queues over the members', () => {
    const all = members(6)
    const counts = all.map((one) => owners(all).filter((owner) => owner === one).length)
    expect(counts.reduce((sum, count) => sum + count)).toBe(240)
    expect(Math.min(...counts)).toBeGreaterThan(20)
    expect(Math.max(...counts)).toBeLessThan(65)
  })

  it('move only the queues of the member that goes', () => {
    const all = members(6)
    const before = owners(all)
    const after = owners(all.slice(1))
    for (const [index, owner] of before.entries()) {
      if (owner !== all[0]) expect(after[index]).toBe(owner)
      else expect(after[index]).not.toBe(owner)
    }
  })

  it('are told apart by names that nobody else has', () => {
    expect(new Set(members(1_000)).size).toBe(1_000)
  })
})
