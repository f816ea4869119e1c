import { describe, expect, it } from 'vitest'

import { isHoldfastError } from '../../src/contract/errors.ts'
import {
  checkedGroupName,
  checkedTopicName,
  deadName,
  queueName,
  retryName,
} from '../../src/contract/names.ts'

describe('names', () => {
  it('derives the destinations of a group', () => {
    expect(queueName('orders', 'billing')).toBe('orders.billing')
    expect(retryName('orders', 'billing', 5_000)).toBe('orders.billing.retry.5000')
    expect(deadName('orders', 'billing')).toBe('orders.billing.dead')
  })

  it.each(['', 'a b', 'ünder', '..', 'a/b', 'a\n'])('refuses the topic %j', (name) => {
    expect(() => checkedTopicName(name)).toThrow(/topic name .* allowed are/)
  })

  it.each(['', 'a.b', 'dead', 'retry', '42', 'a b'])('refuses the group %j', (name) => {
    expect(() => checkedGroupName(name)).toThrow(/group name .* allowed are/)
  })

  it('refuses names that some broker would cut', () => {
    const code = (() => {
      try {
        return queueName('t'.repeat(200), 'g'.repeat(60))
      } catch (error) {
        return isHoldfastError(error) ? error.code : 'none'
      }
    })()
    expect(code).toBe('group')
  })
})
