import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { Heap } from '../../../adapters/memory/heap.ts'
import { Ring } from '../../../adapters/memory/ring.ts'
import { RowList } from '../../../adapters/memory/row-list.ts'
import { Later, Timeline } from '../../../adapters/memory/timeline.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'

/** A push of that number, or taking the oldest. */
const steps = fc.array(fc.option(fc.integer(), { freq: 1 }), { maxLength: 200 })

describe('Ring', () => {
  it('gives out what was put in, in order, whatever the sequence of steps', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const ring = new Ring<number>()
        const model: number[] = []
        for (const step of all) {
          if (step !== null) ring.push(step)
          if (step !== null) model.push(step)
          const taken = step === null ? [ring.shift(), model.shift()] : [0, 0]
          expect(taken[0]).toBe(taken[1])
          expect(ring.size).toBe(model.length)
          expect(ring.peek()).toBe(model[0])
          expect(ring.first(3)).toEqual(model.slice(0, 3))
        }
      }),
    )
  })

  it('keeps order over growing and over giving its memory back', () => {
    const ring = new Ring<number>()
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 40_000; n++) ring.push(n)
      for (let n = 0; n < 40_000; n++) if (ring.shift() !== n) throw new Error(`lost ${n}`)
      expect(ring.size).toBe(0)
    }
  })
})

interface Item {
  readonly rank: number
  place: number
}

describe('Heap', () => {
  it('gives out the smallest, also after others were taken out of the middle', () => {
    const ranks = fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 })
    fc.assert(
      fc.property(ranks, fc.infiniteStream(fc.nat()), (all, choices) => {
        const heap = new Heap<Item>((a, b) => a.rank < b.rank)
        const items = all.map((rank) => ({ rank, place: -1 }))
        for (const item of items) heap.push(item)
        const kept = items.filter((item) => {
          if ((choices.next().value as number) % 3 > 0) return true
          expect(heap.remove(item)).toBe(true)
          expect(heap.remove(item)).toBe(false)
          return false
        })
        const out: number[] = []
        for (let next = heap.pop(); next !== undefined; next = heap.pop()) out.push(next.rank)
        expect(out).toEqual(kept.map(({ rank }) => rank).toSorted((a, b) => a - b))
        expect(items.every(({ place }) => place === -1)).toBe(true)
      }),
    )
  })
})

describe('RowList', () => {
  it('reads in the order of ids, whatever the order of commits and deletes', () => {
    const ids = fc.uniqueArray(fc.nat({ max: 500 }), { maxLength: 200 })
    fc.assert(
      fc.property(ids, fc.nat({ max: 9 }), (all, keep) => {
        const list = new RowList<{ readonly id: number }>()
        for (const id of all) list.insert({ id })
        const gone = all.filter((id) => id % 10 !== keep)
        for (const id of gone) list.delete(id)
        const left = all.filter((id) => id % 10 === keep).toSorted((a, b) => a - b)
        const read = list.first(1_000, () => true)
        expect(read.map(({ id }) => id)).toEqual(left)
        expect(list.size).toBe(left.length)
        expect(list.oldest()?.id).toBe(left[0])
      }),
    )
  })
})

describe('Timeline', () => {
  it('does what is due at its instant, equal ones in order, with one timer', async () => {
    const clock = new VirtualClock()
    const timeline = new Timeline()
    timeline.start(clock)
    const done: string[] = []
    for (const [name, at] of [
      ['c', 22],
      ['a', 10],
      ['b1', 20],
      ['b2', 20],
    ] as const) {
      timeline.add(new Later(at, () => done.push(`${name}@${clock.now()}`)))
    }
    expect(clock.timers).toBe(1)
    await clock.advance(9)
    expect(done).toEqual([])
    await clock.advance(50)
    expect(done).toEqual(['a@10', 'b1@20', 'b2@20', 'c@22'])
    expect(clock.timers).toBe(0)
  })

  it('does nothing while it is stopped, and catches up', async () => {
    const clock = new VirtualClock()
    const timeline = new Timeline()
    timeline.start(clock)
    let done = 0
    timeline.add(new Later(10, () => done++))
    timeline.stop()
    timeline.add(new Later(5, () => done++))
    expect(clock.timers).toBe(0)
    await clock.advance(100)
    expect(done).toBe(0)
    timeline.start(clock)
    await clock.advance(0)
    expect(done).toBe(2)
  })

  it('goes on with the time that was left when it gets another clock', async () => {
    const first = new VirtualClock()
    await first.advance(1_000)
    const timeline = new Timeline()
    timeline.start(first)
    let done = 0
    timeline.add(new Later(1_100, () => done++))
    await first.advance(40)
    timeline.stop()
    const second = new VirtualClock()
    timeline.start(second)
    await second.advance(59)
    expect(done).toBe(0)
    await second.advance(1)
    expect(done).toBe(1)
  })

  it('cancels its timer when nothing waits any more', () => {
    const clock = new VirtualClock()
    const timeline = new Timeline()
    timeline.start(clock)
    const item = new Later(10, () => undefined)
    timeline.add(item)
    expect(timeline.remove(item)).toBe(true)
    expect(timeline.remove(item)).toBe(false)
    expect(clock.timers).toBe(0)
  })
})
