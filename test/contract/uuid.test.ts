import { describe, expect, it } from 'vitest'

import { type Clock, systemClock, systemRandom } from '../../src/contract/clock.ts'
import { UuidSource } from '../../src/contract/uuid.ts'

const at = (ms: number): Clock => ({ ...systemClock, wallMs: () => ms })

describe('UuidSource', () => {
  it('writes version 7 with the time in front', () => {
    const id = new UuidSource(at(0x0123456789ab), systemRandom).next()
    expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it('never repeats itself', () => {
    const source = new UuidSource(at(1), systemRandom)
    const ids = new Set(Array.from({ length: 20_000 }, () => source.next()))
    expect(ids.size).toBe(20_000)
  })
})
