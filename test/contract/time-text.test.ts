import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { timeOf, timeText } from '../../src/contract/time-text.ts'

const NOON = Date.UTC(2026, 10, 22, 12)

describe('times as text', () => {
  it('are read in every spelling of RFC 3339', () => {
    for (const text of [
      '2026-11-22T12:00:00.000Z',
      '2026-11-22t12:00:00.000z',
      '2026-11-22 12:00:00Z',
      '2026-11-22T12:00:00.0009Z',
      '2026-11-22T13:30:00+01:30',
      '2026-11-22T10:30:00.000-0130',
    ]) {
      expect(timeOf(text), text).toBe(NOON)
    }
  })

  it('are none when anything else stands there', () => {
    for (const text of ['', 'yyyy-mm-ddThh:mm:ss.mmmZ', '2026-11-22T12:00:00.000', '2026-11-22']) {
      expect(timeOf(text), text).toBeNull()
    }
    const spoiled = fc.tuple(fc.nat(23), fc.constantFrom('x', '/', ' ', '\u0660'))
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4e12 }), spoiled, (ms, [at, by]) => {
        const text = timeText(ms)
        const other = text.slice(0, at) + by + text.slice(at + 1)
        // A blank in place of the T is RFC 3339 too.
        if (!(at === 10 && by === ' ')) expect(timeOf(other), other).toBeNull()
      }),
    )
  })
})
