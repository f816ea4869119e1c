import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { DeadlineWatch, Watched } from '../../src/policy/deadline-watch.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

class Item extends Watched {
  readonly #told: (item: Item) => void

  constructor(dueAt: number, told: (item: Item) => void) {
    super(dueAt)
    this.#told = told
  }

  override onDue(): void {
    this.#told(this)
  }
}

describe('DeadlineWatch', () => {
  it('tells each item once, at its instant, on one timer for all', async () => {
    const clock = new VirtualClock()
    const watch = new DeadlineWatch(clock)
    const told: [number, number][] = []
    for (const dueAt of [300, 100, 200, 100]) {
      watch.add(new Item(dueAt, (item) => told.push([item.dueAt, clock.now()])))
    }
    expect(clock.timers).toBe(1)
    await clock.advance(1_000)
    expect(told).toEqual([
      [100, 100],
      [100, 100],
      [200, 200],
      [300, 300],
    ])
    expect(clock.timers).toBe(0)
  })

  it('does not tell what was removed, and has no timer when nothing is left', async () => {
    const clock = new VirtualClock()
    const watch = new DeadlineWatch(clock)
    const item = new Item(100, () => expect.unreachable())
    watch.add(item)
    watch.remove(item)
    watch.remove(item)
    await clock.settle()
    expect([watch.size, clock.timers]).toEqual([0, 0])
    await clock.advance(200)
  })

  it('tells exactly the items that are due and were not removed, whatever the order', async () => {
    const step = fc.record({ due: fc.integer({ min: 1, max: 50 }), remove: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const clock = new VirtualClock()
        const watch = new DeadlineWatch(clock)
        const told = new Set<Item>()
        const items = steps.map(({ due }) => new Item(due, (item) => told.add(item)))
        for (const item of items) watch.add(item)
        for (const [index, item] of items.entries()) if (steps[index]?.remove) watch.remove(item)
        await clock.advance(25)
        const expected = items.filter((item, index) => item.dueAt <= 25 && !steps[index]?.remove)
        expect(told).toEqual(new Set(expected))
        expect(watch.items()).toEqual(
          items.filter((item, index) => item.dueAt > 25 && !steps[index]?.remove),
        )
        await clock.advance(25)
        expect([watch.size, clock.timers]).toEqual([0, 0])
      }),
      { numRuns: 50 },
    )
  })

  it('may be changed by what it tells', async () => {
    const clock = new VirtualClock()
    const watch = new DeadlineWatch(clock)
    const told: number[] = []
    const second = new Item(20, () => told.push(2))
    watch.add(
      new Item(10, () => {
        told.push(1)
        watch.remove(second)
        watch.add(new Item(15, () => told.push(3)))
      }),
    )
    watch.add(second)
    await clock.advance(30)
    expect(told).toEqual([1, 3])
  })
})
