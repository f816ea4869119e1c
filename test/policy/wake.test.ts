import { describe, expect, it } from 'vitest'

import { Wake } from '../../src/policy/wake.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

describe('Wake', () => {
  it('sleeps its time, or until it is rung', async () => {
    const clock = new VirtualClock()
    const wake = new Wake(clock)
    await clock.run(wake.sleep(100))
    expect(clock.now()).toBe(100)
    const sleeping = wake.sleep(100)
    wake.ring()
    await sleeping
    expect([clock.now(), clock.timers]).toEqual([100, 0])
  })

  it('keeps a ring for the next sleep, once', async () => {
    const clock = new VirtualClock()
    const wake = new Wake(clock)
    wake.ring()
    await wake.sleep(100)
    expect(clock.now()).toBe(0)
    await clock.run(wake.sleep(100))
    expect(clock.now()).toBe(100)
  })
})
