import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { DelayQueue } from '../../src/policy/delay-queue.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

describe('DelayQueue', () => {
  it('hands each item back at its instant, in the order they are due, on one timer', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 40 }),
        async (delays) => {
          const clock = new VirtualClock()
          const back: [number, number][] = []
          const queue = new DelayQueue<number>(clock, (delay) => back.push([delay, clock.now()]))
          for (const delay of delays) queue.add(delay, delay)
          expect(clock.timers).toBe(delays.length === 0 ? 0 : 1)
          await clock.advance(100)
          const sorted = delays.toSorted((one, other) => one - other)
          expect(back).toEqual(sorted.map((delay) => [delay, delay]))
          expect([queue.size, clock.timers]).toEqual([0, 0])
        },
      ),
      { numRuns: 50 },
    )
  })

  it('hands nothing back after it was cleared', async () => {
    const clock = new VirtualClock()
    const queue = new DelayQueue<string>(clock, () => expect.unreachable())
    queue.add(10, 'one')
    queue.clear()
    await clock.advance(20)
    expect(clock.timers).toBe(0)
  })
})
