import { describe, expect, it } from 'vitest'
import type { Delivery } from '../../src/contract/broker.ts'
import type { ConsumedTopic } from '../../src/consume/consumed-topic.ts'
import { Fifo } from '../../src/consume/fifo.ts'
import { Assignment, Held } from '../../src/consume/held.ts'
import { Lanes } from '../../src/consume/lanes.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const PLACES = 16

class Rig {
  readonly clock: VirtualClock = new VirtualClock()
  readonly blocked: Set<string> = new Set()
  readonly assignment: Assignment = new Assignment({ name: 's', epoch: 1 })
  readonly names: Map<Held, string> = new Map()
  readonly lanes: Lanes = new Lanes(
    this.clock,
    PLACES,
    {
      blocked: (held) => void this.blocked.add(this.names.get(held)!),
      unblocked: (held) => void this.blocked.delete(this.names.get(held)!),
    },
    () => undefined,
  )

  /** `a1`: key a; `-1`: no key. */
  add(list: string, alone = false): Held[] {
    return list.split(' ').map((name) => {
      const topic = { name: 'orders' } as ConsumedTopic
      const delivery = { at: name } as Delivery
      const held = new Held(delivery, topic, this.assignment, 0, alone)
      this.names.set(held, name)
      this.lanes.add(held, name.startsWith('-') ? null : name[0]!)
      return held
    })
  }

  take(want: number, heads?: number): string {
    return this.taken(want, heads)
      .map((held) => this.names.get(held))
      .join(' ')
  }

  taken(want: number, heads?: number): Held[] {
    return this.lanes.take(want, heads)
  }

  finish(...all: Held[]): void {
    for (const held of all) this.lanes.remove(held)
    for (const held of all) this.lanes.ended(held)
  }
}

describe('lanes', () => {
  it('hand out one of a key at a time, keys side by side, all that have none', () => {
    const rig = new Rig()
    const [a1] = rig.add('a1 a2 b1 -1 -2')
    expect(rig.take(1)).toBe('a1')
    expect(rig.take(1)).toBe('b1')
    expect(rig.take(1)).toBe('-1')
    expect(rig.take(1)).toBe('-2')
    expect(rig.take(1)).toBe('')
    rig.finish(a1!)
    expect(rig.take(1)).toBe('a2')
  })

  it('fill a slice with heads first, then with their followers in order', () => {
    const rig = new Rig()
    rig.add('a1 a2 a3 b1 b2')
    expect(rig.lanes.startable(10)).toBe(5)
    expect(rig.lanes.startable(2)).toBe(2)
    expect(rig.take(4)).toBe('a1 b1 a2 b2')
    expect(rig.take(4)).toBe('')
  })

  it('take as few heads as asked, and fill up with followers', () => {
    const rig = new Rig()
    rig.add('a1 a2 b1')
    expect(rig.take(3, 1)).toBe('a1 a2')
    expect(rig.take(3, 1)).toBe('b1')
  })

  it('keep those alone that have to be', () => {
    const rig = new Rig()
    rig.add('-1')
    rig.add('-2', true)
    const [b1, b2] = [...rig.add('b1'), ...rig.add('b2', true)]
    expect(rig.take(9)).toBe('-1')
    expect(rig.take(9)).toBe('-2')
    expect(rig.take(9)).toBe('b1')
    rig.finish(b1!)
    expect(rig.take(9)).toBe('b2')
    rig.finish(b2!)
  })

  it('close a key until its handler has really ended', () => {
    const rig = new Rig()
    const [a1] = rig.add('a1 a2')
    rig.taken(1)
    rig.lanes.remove(a1!)
    expect(rig.take(1)).toBe('')
    rig.lanes.ended(a1!)
    expect(rig.take(1)).toBe('a2')
  })

  it('let a delivery wait at the head of its key, and not a millisecond too short', async () => {
    const rig = new Rig()
    const [a1] = rig.add('a1 a2 b1')
    rig.taken(1)
    rig.lanes.wait(a1!, 100)
    rig.lanes.ended(a1!)
    expect(rig.take(9)).toBe('b1')
    await rig.clock.advance(99)
    expect(rig.take(9)).toBe('')
    await rig.clock.advance(1)
    expect(rig.take(1)).toBe('a1')
  })

  it('do not start one that waited before its last handler ended', async () => {
    const rig = new Rig()
    const [one] = rig.add('-1')
    rig.taken(1)
    rig.lanes.wait(one!, 10)
    await rig.clock.advance(50)
    expect(rig.take(1)).toBe('')
    rig.lanes.ended(one!)
    expect(rig.take(1)).toBe('-1')
  })

  it('put one back for the next slice, before its followers', () => {
    const rig = new Rig()
    const [a1, a2] = rig.add('a1 a2')
    rig.taken(2)
    for (const held of [a1!, a2!]) rig.lanes.wait(held, 0)
    for (const held of [a1!, a2!]) rig.lanes.ended(held)
    expect(rig.take(2)).toBe('a1 a2')
  })

  it('tell who waits for a failed one, followers that come later included', async () => {
    const rig = new Rig()
    const [a1] = rig.add('a1 a2 b1')
    rig.taken(1)
    rig.lanes.wait(a1!, 100)
    rig.lanes.ended(a1!)
    expect([...rig.blocked]).toEqual(['a1', 'a2'])
    rig.add('a3')
    expect([...rig.blocked]).toEqual(['a1', 'a2', 'a3'])
    await rig.clock.advance(100)
    expect(rig.blocked.size).toBe(3)
    expect(rig.take(1)).toBe('b1')
    expect(rig.take(1)).toBe('a1')
    rig.finish(a1!)
    expect(rig.blocked.size).toBe(0)
  })

  it('forget a dropped one wherever it is', async () => {
    const rig = new Rig()
    const [a1, a2, a3, b1] = rig.add('a1 a2 a3 b1')
    rig.lanes.remove(b1!)
    rig.lanes.remove(a2!)
    expect(rig.take(9)).toBe('a1 a3')
    rig.lanes.wait(a1!, 10)
    rig.lanes.remove(a1!)
    rig.lanes.remove(a3!)
    rig.lanes.ended(a1!)
    rig.lanes.ended(a3!)
    await rig.clock.advance(20)
    expect(rig.take(9)).toBe('')
    expect(rig.blocked.size).toBe(0)
    rig.add('a4')
    expect(rig.take(9)).toBe('a4')
  })
})

describe('a fifo', () => {
  it('keeps its order over any number of turns', () => {
    const fifo = new Fifo<number>()
    const out: number[] = []
    let next = 0
    for (let round = 0; round < 50; round++) {
      for (let n = 0; n < 200; n++) fifo.push(next++)
      for (let n = 0; n < 150; n++) out.push(fifo.shift()!)
    }
    expect(fifo.length).toBe(2_500)
    expect([...fifo]).toEqual(Array.from({ length: 2_500 }, (_, at) => 7_500 + at))
    while (fifo.peek() !== undefined) out.push(fifo.shift()!)
    expect(out).toEqual(Array.from({ length: next }, (_, at) => at))
    expect(fifo.shift()).toBeUndefined()
  })
})
